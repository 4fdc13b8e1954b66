// For tests of several ranks: runs of the same settings in as many processes on the loopback interface, one run behind the other, and what each rank saw of
// them. Starting a process takes longer than most runs, so the processes wait for more until the tests of a file are over. As a program it is one
// of them: `testing-ranks.js FOLDER`, in which notes 0, 1, ... name files of cases; an empty note ends it.
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { NO_LABEL } from "../../data/batches.js";
import { BadValuesError } from "../../errors.js";
import type { SampleRecord } from "../../metrics/record.js";
import { type Collectives, shareOf } from "../../parallel/collectives.js";
import { joinRanks } from "../../parallel/join.js";
import { freePort, launchRanks } from "../../parallel/launch.js";
import { rankPlace } from "../../parallel/launch-names.js";
import { mulScalar } from "../../torch/ops.js";
import type { Run } from "../prepare.js";
import type { TrainSettings } from "../settings/settings.js";
import { type Ran, runTraining } from "../testing-run.js";

export interface RankCase {
  settings: TrainSettings;
  /** All ranks end it with a failure; any other ends the processes, for ranks would not be at the same case any more. */
  fails?: boolean;
  /** Rank 1 alone is asked to stop in this step. */
  stopAt?: number;
  /** The first micro-batch of every step has no token that is trained. */
  blank?: boolean;
  /** The gradient of every step that has a certain row is infinite behind the head. */
  poisoned?: boolean;
  /** Rank 1 alone meets bad values in a backward pass, and ends with them. */
  spoilt?: boolean;
  /** The same in the forward pass of step 2, the first time. */
  spoiltForward?: boolean;
  /** Rank 1 alone meets bad values in the first pass over its micro-batches, when so many blocks have begun. */
  spoiltBlock?: number;
  /** The same in its first backward pass, when so many have begun. */
  spoiltBack?: number;
  /** Rank 1 alone finds bad values at this look of a watch of streams, as on a GPU. */
  spoiltLook?: number;
  /** Rank 1 alone is elsewhere in the run than the others. */
  astray?: boolean;
}

export interface RankSaw extends Pick<Ran, "outcome" | "steps" | "evals"> {
  messages: string[];
  samples: SampleRecord[];
  /** Trained tokens of this rank's share of every step. */
  ownTokens: number[];
  /** All tokens of every step, of all ranks. */
  tokens: number[];
  /** Bytes that this rank sent to others in every step but the last. */
  sent: number[];
  failure: string | null;
}

/** How tensors travel between the ranks. */
export interface Travel {
  /** Through copies, as those of a GPU. */
  copiesAll?: boolean;
  /** Over this stand-in for NCCL. */
  nccl?: string;
}

/** Processes that have joined, and wait for cases. */
interface Group {
  folder: string;
  notes: number;
  said: string[];
  /** Set when they have ended. */
  code: number | null;
  ended: Promise<void>;
}

/** By how many they are, and how tensors travel. */
const groups = new Map<string, Group>();

/** A group's file that says how tensors travel. */
const TRAVEL = "travel.json";

/** Between looks at whether there is something to do, or something done. */
const LOOK_MS = 10;

async function groupOf(nproc: number, travel: Travel): Promise<Group> {
  const key = JSON.stringify([nproc, travel]);
  const there = groups.get(key);
  if (there !== undefined) return there;
  const folder = mkdtempSync(join(tmpdir(), "revmoe-ranks-"));
  writeFileSync(join(folder, TRAVEL), JSON.stringify(travel));
  const place = { nproc, nnodes: 1, nodeRank: 0, host: "127.0.0.1", port: await freePort() };
  const said: string[] = [];
  const command = [process.execPath, fileURLToPath(import.meta.url), folder];
  const group: Group = { folder, notes: 0, said, code: null, ended: Promise.resolve() };
  group.ended = launchRanks(command, place, { write: (text) => void said.push(text) }).then((code) => {
    group.code = code;
    groups.delete(key);
    rmSync(folder, { recursive: true });
  });
  groups.set(key, group);
  return group;
}

/** A file that is whole as soon as it is there. */
function writeWhole(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

const note = (group: Group, text: string): void => writeWhole(join(group.folder, String(group.notes++)), text);

async function endGroups(): Promise<void> {
  for (const group of [...groups.values()]) {
    note(group, "");
    await group.ended;
  }
}

/** What each rank saw of each case, by rank. */
export async function trainOnRanks(
  folder: string,
  nproc: number,
  cases: RankCase[],
  travel: Travel = {},
): Promise<RankSaw[][]> {
  const group = await groupOf(nproc, travel);
  const path = join(folder, `cases-${basename(group.folder)}-${group.notes}.json`);
  writeFileSync(path, JSON.stringify(cases));
  note(group, path);
  const results = Array.from({ length: nproc }, (_, rank) => `${path}.${rank}`);
  while (!results.every((result) => existsSync(result))) {
    if (group.code !== null) throw new Error(`the ranks ended with ${group.code}: ${group.said.join("")}`);
    await sleep(LOOK_MS);
  }
  return results.map((result) => JSON.parse(readFileSync(result, "utf8")) as RankSaw[]);
}

/** From now on the first micro-batch of every step has no label. */
export function blankFirst({ data }: Run): void {
  const next = data.nextStep.bind(data);
  data.nextStep = (most) => {
    const placed = next(most);
    placed[0].batch.labels.fill(NO_LABEL);
    placed[0].batch.trainedTokens = 0;
    return placed;
  };
}

/** From now on steps with the row that is the tenth have a gradient that is no number, which all ranks know when the head is updated already. */
export function poison({ data, state: { network } }: Run): void {
  let isBad = false;
  const next = data.nextStep.bind(data);
  data.nextStep = (most) => {
    const placed = next(most);
    isBad = placed.some(({ batch }) => batch.places?.some((place) => place.endsWith(":10")));
    return placed;
  };
  const { coupling } = network;
  const beginGradient: typeof coupling.beginGradient = (streams) =>
    isBad ? mulScalar(coupling.beginGradient(streams), Number.POSITIVE_INFINITY) : coupling.beginGradient(streams);
  Object.assign(network, { coupling: { ...coupling, beginGradient } });
}

function spoilBackward({ state: { network } }: Run): void {
  const beginGradient = (): never => {
    throw new BadValuesError("a value is spoilt.", "");
  };
  Object.assign(network, { coupling: { ...network.coupling, beginGradient } });
}

function spoilForward({ data, state: { network } }: Run): void {
  let steps = 0;
  const next = data.nextStep.bind(data);
  data.nextStep = (most) => {
    steps++;
    return next(most);
  };
  const { coupling } = network;
  let passes = 0;
  const forward: typeof coupling.forward = (...of) => {
    // In the middle of the blocks.
    if (steps === 2 && ++passes === 2) throw new BadValuesError("a value is spoilt.", "");
    return coupling.forward(...of);
  };
  Object.assign(network, { coupling: { ...network.coupling, forward } });
}

function spoilBlock({ state: { network } }: Run, way: "forward" | "reverse", blocks: number): void {
  const { coupling } = network;
  let begun = 0;
  const passed = coupling[way] as (...of: unknown[]) => unknown;
  const spoilt = (...of: unknown[]): unknown => {
    if (++begun === blocks) throw new BadValuesError("a value is spoilt.", "");
    return passed(...of);
  };
  Object.assign(network, { coupling: { ...coupling, [way]: spoilt } });
}

function spoilLook({ state: { network } }: Run, at: number): void {
  const { format } = network;
  let looks = 0;
  const watch: typeof format.watch = (device) => {
    const { look, close } = format.watch(device);
    const spoilt = (): void => {
      if (++looks === at) throw new BadValuesError("a value is spoilt.", "");
      look();
    };
    return { look: spoilt, close };
  };
  Object.assign(network, { format: { ...format, watch } });
}

async function takeNotes(folder: string): Promise<void> {
  const travel = JSON.parse(readFileSync(join(folder, TRAVEL), "utf8")) as Travel;
  const ranks = joinRanks(rankPlace(process.env), 60, travel);
  if (travel.nccl) ranks.useNccl(travel.nccl, "cpu");
  const parent = process.ppid;
  for (let count = 0; ; count++) {
    const path = join(folder, String(count));
    while (!existsSync(path)) {
      if (process.ppid !== parent) process.exit(1);
      await sleep(LOOK_MS);
    }
    const cases = readFileSync(path, "utf8");
    if (cases === "") break;
    await trainCases(cases, ranks);
  }
  ranks.close();
}

async function trainCases(path: string, ranks: Collectives): Promise<void> {
  const saw: RankSaw[] = [];
  for (const {
    settings,
    fails,
    stopAt,
    blank,
    poisoned,
    spoilt,
    spoiltForward,
    spoiltBlock,
    spoiltBack,
    spoiltLook,
    astray,
  } of JSON.parse(readFileSync(path, "utf8")) as RankCase[]) {
    ranks.at("the start of a case");
    const ownTokens: number[] = [];
    const tokens: number[] = [];
    const sentBefore: number[] = [];
    const look = (run: Run): void => {
      if (blank) blankFirst(run);
      if (poisoned) poison(run);
      if (spoilt && ranks.rank === 1) spoilBackward(run);
      if (spoiltForward && ranks.rank === 1) spoilForward(run);
      if (spoiltBlock !== undefined && ranks.rank === 1) spoilBlock(run, "forward", spoiltBlock);
      if (spoiltBack !== undefined && ranks.rank === 1) spoilBlock(run, "reverse", spoiltBack);
      if (spoiltLook !== undefined && ranks.rank === 1) spoilLook(run, spoiltLook);
      if (astray) {
        ranks.at(ranks.rank === 1 ? "step 9" : "step 1");
        ranks.gather(null);
      }
      const { data } = run;
      const next = data.nextStep.bind(data);
      data.nextStep = (most) => {
        const placed = next(most);
        sentBefore.push(ranks.sentBytes());
        tokens.push(placed.reduce((sum, { batch }) => sum + batch.tokens.length, 0));
        const own = placed.slice(...shareOf(ranks, placed.length));
        ownTokens.push(own.reduce((sum, { batch }) => sum + batch.trainedTokens, 0));
        return placed;
      };
    };
    try {
      const ran = await runTraining(settings, { ranks, look, stopAt: ranks.rank === 1 ? stopAt : undefined });
      const messages = ran.events.flatMap((event) => (event.kind === "message" ? [event.message] : []));
      const samples = ran.events.filter((event) => event.kind === "sample");
      const sent = sentBefore.slice(1).map((bytes, i) => bytes - sentBefore[i]);
      saw.push({ ...ran, messages, samples, ownTokens, tokens, sent, failure: null });
    } catch (failure) {
      if (!fails) throw failure;
      saw.push({ failure: (failure as Error).message } as RankSaw);
    }
  }
  writeWhole(`${path}.${ranks.rank}`, JSON.stringify(saw));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await takeNotes(process.argv[2]);
else after(endGroups);
