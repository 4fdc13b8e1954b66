// How a process becomes a rank: it meets the others where its launcher said, and tries with them whether the group computes right. Then what ranks do
// together goes over c10d, until `close`. What is lost on the way names this rank and the place in the run.
import { deserialize, serialize } from "node:v8";

import { RankLostError, UserError } from "../errors.js";
import { broadcast, closeGroup, gatherBytes, hasGroups, openGroup, sentBytes, sum } from "../torch/comm/group.js";
import { Lane, ncclId } from "../torch/comm/nccl.js";
import { engineInfo } from "../torch/device.js";
import { scope } from "../torch/scope.js";
import { fromArray, toArray } from "../torch/tensor.js";
import { type Channel, messages, rounds } from "./channel.js";
import { ALONE, type Collectives, type GradientSums, type RemoteReads } from "./collectives.js";
import { directSums } from "./direct-sums.js";
import { rowExchange } from "./exchange.js";
import type { RankPlace } from "./launch-names.js";
import { orderedSums } from "./ordered-sums.js";
import { remoteReads } from "./remote-reads.js";
import { tagsOf } from "./tags.js";

/** Ranks as they are once all have met. */
export interface JoinedRanks extends Collectives {
  /** From now on, large tensors of `device` travel over NCCL where all ranks send at the same places. Every rank makes the call. */
  useNccl(library: string, device: string): void;
}

/** `seconds` that a rank may wait for another; with `copiesAll` tensors travel as those of a GPU do, for tests. Errors: UserError; RankLostError where the others are not there in time. */
export function joinRanks(place: RankPlace | null, seconds: number, { copiesAll = false } = {}): JoinedRanks {
  if (place === null) return { ...ALONE, useNccl() {} };
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
  let nccl: { library: string; device: string } | null = null;
  const lanes = new Map<string, Channel>();
  /** The lane of this use, opened when all first come to it. */
  const channelFor = (use: string, device: string | undefined): Channel => {
    if (nccl === null || device !== nccl.device) return messages;
    const open = (): Channel => {
      const { library } = nccl as { library: string };
      const [id] = ranks.gather(rank === 0 ? ncclId(library) : new Uint8Array());
      return rounds(new Lane({ library, id, rank, world, device, seconds }));
    };
    if (!lanes.has(use)) lanes.set(use, named(open));
    return lanes.get(use) as Channel;
  };
  const ranks: JoinedRanks = {
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
    sums: (needed, order = "ordered") => {
      const sums =
        order === "direct"
          ? directSums({ rank, world }, ++pass, needed, channelFor("sums", nccl?.device))
          : orderedSums({ rank, world }, ++pass, needed);
      return namedSums(sums, named);
    },
    reads: (on) => namedReads(remoteReads(tagsOf(++pass), channelFor("reads", on)), named),
    exchange: () => {
      // Opened here, where all ranks are, also those that do not send rows to one another.
      channelFor("rows", nccl?.device);
      const rows = rowExchange(rank, tagsOf(++pass)(0), (device) => channelFor("rows", device));
      return (...call) => named(() => rows(...call));
    },
    useNccl: (library, device) => {
      nccl = { library, device };
    },
    sentBytes,
    at: (place) => {
      where = place;
    },
    close: () => {
      named(() => gatherBytes(new Uint8Array()));
      for (const { close } of lanes.values()) close();
      closeGroup();
    },
  };
  return ranks;
}

/** Of Gloo's sentences the first, without the place in its source. */
const plainReason = (message: string): string =>
  message
    .replace(/^\[[^\]]*\]\s*/, "")
    .split(/\.\s/)[0]
    .replace(/\.$/, "");

/** `more`: where in a step. */
type Named = <Result>(call: () => Result, more?: string) => Result;

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

const namedReads = ({ inRounds, go, offer, read, settled, finish, close }: RemoteReads, named: Named): RemoteReads => ({
  inRounds,
  go: () => named(go),
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
