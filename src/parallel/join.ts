// How a process becomes a rank: it meets the others where its launcher said, and tries with them whether the group computes right. Then what ranks do
// together goes over c10d, until `close`. What is lost on the way names this rank and the place in the run.
import { deserialize, serialize } from "node:v8";

import { RankLostError, UserError } from "../errors.js";
import { broadcast, closeGroup, gatherBytes, hasGroups, openGroup, sentBytes, sum } from "../torch/comm/group.js";
import { engineInfo } from "../torch/device.js";
import { scope } from "../torch/scope.js";
import { fromArray, toArray } from "../torch/tensor.js";
import { ALONE, type Collectives, type GradientSums, type RemoteReads, type SumOrder } from "./collectives.js";
import { directSums } from "./direct-sums.js";
import { rowExchange } from "./exchange.js";
import type { RankPlace } from "./launch-names.js";
import { orderedSums } from "./ordered-sums.js";
import { remoteReads } from "./remote-reads.js";
import { tagsOf } from "./tags.js";

/** `seconds` that a rank may wait for another; with `copiesAll` tensors travel as those of a GPU do, for tests. Errors: UserError; RankLostError where the others are not there in time. */
export function joinRanks(place: RankPlace | null, seconds: number, { copiesAll = false } = {}): Collectives {
  if (place === null) return ALONE;
  if (!hasGroups())
    throw new UserError(
      `${place.source}: this libtorch brings no processes together (it has no Gloo). Train in one process, or see: revmoe doctor`,
    );
  const { rank, world, host, port, serves, restarts } = place;
  /** The same on all ranks whenever they do something together; none at the start. */
  let where = "";
  let remedy = `Start all ranks, where they reach that address, and with one version of libtorch (here ${engineInfo().version}).`;
  /** With two, there is but one that can be lost. */
  const other = world === 2 ? `rank ${1 - rank}` : "another rank";
  const named: Named = (call, more = "") => {
    try {
      return call();
    } catch (failure) {
      if (!(failure instanceof RankLostError) || failure.message.startsWith(`rank ${rank} of`)) throw failure;
      if (failure.message.includes("has libtorch"))
        throw new UserError(
          `rank ${rank} of ${world}: ${failure.message} (expected the same). Set up one version on every machine.`,
        );
      const what = `rank ${rank} of ${world}: ${other} has ended or does not answer within ${seconds} s, at ${where || `the start, at ${host}:${port}`}${more}`;
      throw new RankLostError(`${what}: ${plainReason(failure.message)}. ${remedy}`);
    }
  };
  named(() => openGroup({ rank, world, host, port, serves, prefix: `revmoe/${restarts}`, seconds, copiesAll }));
  named(() => trial(rank, world));
  remedy = "This rank ends, too; the other's own words say why. Start all again with resume: latest.";
  let pass = 0;
  return {
    rank,
    world,
    gather: <T>(value: T) => {
      const all = named(() => gatherBytes(serialize([where, value])).map((bytes) => deserialize(bytes) as [string, T]));
      const other = all.findIndex(([at]) => at !== where);
      if (other >= 0)
        throw new UserError(
          `rank ${rank} of ${world} is at ${where || "the start"}, and rank ${other} at ${all[other][0] || "the start"} (expected the same): one of them has met an error that the others have not. Start all again with resume: latest.`,
        );
      return all.map(([, value]) => value);
    },
    sums: (needed, order = "ordered") => namedSums(SUMS[order]({ rank, world }, ++pass, needed), named),
    reads: () => namedReads(remoteReads(tagsOf(++pass)), named),
    exchange: () => {
      const rows = rowExchange(rank, tagsOf(++pass)(0));
      return (...call) => named(() => rows(...call));
    },
    sentBytes,
    at: (place) => {
      where = place;
    },
    close: () => {
      named(() => gatherBytes(new Uint8Array()));
      closeGroup();
    },
  };
}

/** Of Gloo's sentences the first, without the place in its source. */
const plainReason = (message: string): string =>
  message
    .replace(/^\[[^\]]*\]\s*/, "")
    .split(/\.\s/)[0]
    .replace(/\.$/, "");

/** `more`: where in a step. */
type Named = <Result>(call: () => Result, more?: string) => Result;

const SUMS: Record<SumOrder, typeof orderedSums> = { ordered: orderedSums, direct: directSums };

const namedSums = (sums: GradientSums, named: Named): GradientSums => ({
  beginsHere: sums.beginsHere,
  enter: () => named(sums.enter),
  begin: (part, of) => named(() => sums.begin(part, of), partName(part)),
  end: (part, of, measure, whole) => named(() => sums.end(part, of, measure, whole), partName(part)),
  pause: (part, of) => named(() => sums.pause(part, of), partName(part)),
  resume: (part, of) => named(() => sums.resume(part, of), partName(part)),
  finish: () => named(sums.finish),
  giveUp: () => named(sums.giveUp),
  close: sums.close,
});

const namedReads = ({ offer, read, settled, finish, close }: RemoteReads, named: Named): RemoteReads => ({
  offer: (number, tensor, to) => named(() => offer(number, tensor, to)),
  read: (number, from, into) => {
    const wait = named(() => read(number, from, into));
    return () => named(wait);
  },
  settled: (number) => named(() => settled(number)),
  finish: () => named(finish),
  close,
});

const partName = (part: number): string => (part < 0 ? ", behind or before the blocks" : `, block ${part}`);

/** A sum of known numbers, and a number of the last rank: headers and library that differ would give others. */
function trial(rank: number, world: number): void {
  scope(() => {
    const numbers = fromArray([rank + 1, 0.5 - rank], [2], "float32", "cpu");
    sum(numbers);
    const all = (world * (world + 1)) / 2;
    const from = fromArray([rank], [1], "float32", "cpu");
    broadcast(from, world - 1);
    const [found, expected] = [
      [...toArray(numbers), ...toArray(from)],
      [all, 0.5 * world - (all - world), world - 1],
    ];
    if (found.join() === expected.join()) return;
    throw new UserError(
      `rank ${rank} of ${world}: a sum over all ranks gave ${found.join(", ")} (expected ${expected.join(", ")}): the engine does not fit its libtorch. ` +
        "Run revmoe setup on every machine.",
    );
  });
}
