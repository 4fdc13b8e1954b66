// The plan of a training step: bytes by term, by span, and where they are. Blocks of one kind and micro-batches of one
// size each add the same, so a deep model or a step of many micro-batches is planned from two small depths and two small
// numbers of micro-batches, and what a further one adds is added as often as there are more.
import type { SizedBatch } from "../data/batches.js";
import type { MemoryTerms } from "../step/memory-terms.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { sizedBatch } from "../train/full-batch.js";
import { atDepth, depthsOf } from "./depths.js";
import { knownStep, knownStored } from "./known-steps.js";
import { onDevice, placementOf, type Placed } from "./placement.js";
import { beyondCounting } from "../torch/shadow.js";
import { STORES } from "../store/registry.js";
import { type HeldBytes, NOTHING_HELD } from "../store/store.js";
import { UserError } from "../errors.js";
import { checkExpertSharing, sharingNotes } from "../train/ranks/expert-sharing.js";
import { checkForRanks } from "../train/ranks/prepare-ranks.js";
import { stepTraffic } from "./traffic.js";
import { plannedRank } from "./planned-ranks.js";
import {
  type Geometry,
  plannedShares,
  type ShadowStep,
  shadowStep,
  type StoredBytes,
  storedBytes,
} from "./shadow-step.js";

/** Runs of blocks after which ranks have as many gradients on their way as they ever have. */
const BLOCKS_IN_FLIGHT = 6;

export interface SpanPeak {
  name: string;
  bytes: number;
}

/** What is kept for the backward pass, by its parts. */
export interface Kept {
  bitBytes: number;
  routingBytes: number;
  /** Block inputs (checkpoint) or graphs (store). */
  otherBytes: number;
}

export interface Plan {
  settings: TrainSettings;
  terms: MemoryTerms;
  kept: Kept;
  /** The highest totals on the device, the highest first: the first is the peak. */
  spans: SpanPeak[];
  placed: Placed;
  /** Of several ranks: how many, and the bytes that one sends in a step, in the mean. */
  ranks: { count: number; sentBytes: number; notes: string[] };
}

/**
 * The plan of a step of these settings; `batches` are the micro-batches, full ones where there are none. Of several ranks it is that of one: where they
 * share weights and state, of the one that has most of them.
 */
export function planStep(settings: TrainSettings, geometry: Geometry, batches?: SizedBatch[], world = 1): Plan {
  const micro = settings.gradient_accumulation_steps;
  const { shared: isShared, lies } = STORES[settings.parameters];
  if (isShared && world === 1)
    throw new UserError(
      `parameters: ${settings.parameters} shares them out over ranks. Say over how many, as ranks: 2.`,
    );
  const { sequence_ranks: together } = settings;
  if (world % together > 0)
    throw new UserError(
      `sequence_ranks: ${together} hold each micro-batch together, and the plan is of ${world} in all (expected a multiple of ${together}). Say how many there are, as ranks: ${together}.`,
    );
  if (world > 1) checkForRanks(settings, { world });
  checkExpertSharing(settings, geometry.architecture);
  const shared = isShared ? plannedShares(settings, geometry, world) : undefined;
  const most = shared ? heaviest(shared.held) : 0;
  const ranks = plannedRank(most, world);
  const counted = (depth: number, count: number): ShadowStep =>
    shadowStep(
      { ...settings, share_experts: shared?.experts.stay ? "rows" : "weights" },
      { ...geometry, architecture: atDepth(geometry.architecture, depth) },
      batches?.slice(0, count) ?? new Array<SizedBatch>(count).fill(sizedBatch(settings)),
      { ranks, shares: shared?.shares },
    );
  const step = (depth: number, count: number): ShadowStep =>
    batches === undefined
      ? knownStep(settings, geometry, [world, depth, count], () => counted(depth, count))
      : counted(depth, count);
  const same = batches === undefined || batches.every(({ tokens }) => tokens.length === batches[0].tokens.length);
  const counts = same && micro > 2 ? [1, 2] : [batches?.length ?? micro];
  const depths = depthsOf(settings, geometry.architecture, world > 1 ? BLOCKS_IN_FLIGHT : 2);
  // Rows of the outer list are depths.
  const planned = depths.map((depth) =>
    extended(
      counts.map((count) => step(depth, count)),
      counts,
      batches?.length ?? micro,
    ),
  );
  const whole = extended(planned, depths, geometry.architecture.layers.length);
  const plan = describe(
    settings,
    whole,
    shared
      ? ofShare(shared.held[most], lies === "files")
      : knownStored(settings, geometry, () => storedBytes(settings, geometry)),
  );
  const notes = shared ? sharingNotes(settings, shared.experts, world) : [];
  // Rows to experts are in the traffic already.
  const exchangedBytes = shared?.experts.stay ? 0 : whole.exchangedBytes;
  const sentBytes = stepTraffic(settings, geometry, world) / world + exchangedBytes;
  return { ...plan, ranks: { count: world, sentBytes, notes } };
}

const ofShare = (held: HeldBytes, inFiles: boolean): StoredBytes => ({
  hostBytes: 0,
  held: inFiles ? NOTHING_HELD : held,
  fileBytes: held.weightBytes + held.stateBytes,
});

/** The rank that holds most. */
function heaviest(held: readonly HeldBytes[]): number {
  const bytes = held.map(({ weightBytes, stateBytes }) => weightBytes + stateBytes);
  return bytes.indexOf(Math.max(...bytes));
}

/** From figures at one place, or at two places on a line, to those at `wanted`. */
function extended(steps: ShadowStep[], places: number[], wanted: number): ShadowStep {
  if (steps.length === 1) return steps[0];
  const share = (wanted - places[0]) / (places[1] - places[0]);
  const along = (a: number, b: number): number => {
    const bytes = Math.round(a + share * (b - a));
    if (!Number.isSafeInteger(bytes)) throw beyondCounting();
    return bytes;
  };
  const [from, to] = steps;
  const spans = new Map([...to.spans].map(([name, bytes]) => [name, along(from.spans.get(name) ?? 0, bytes)]));
  const terms = Object.fromEntries(
    Object.entries(from.terms).map(([name, bytes]) => [name, along(bytes, to.terms[name as keyof MemoryTerms])]),
  ) as unknown as MemoryTerms;
  // The peak is that of the highest span, which may be another one there.
  const peakBytes = Math.max(...spans.values());
  terms.workBytes += peakBytes - terms.peakBytes;
  terms.peakBytes = peakBytes;
  return {
    terms,
    spans,
    bitBytes: along(from.bitBytes, to.bitBytes),
    routingBytes: along(from.routingBytes, to.routingBytes),
    hostBytes: along(from.hostBytes, to.hostBytes),
    exchangedBytes: along(from.exchangedBytes, to.exchangedBytes),
  };
}

function describe(settings: TrainSettings, step: ShadowStep, stored: StoredBytes): Omit<Plan, "ranks"> {
  const { bitBytes, routingBytes, hostBytes } = step;
  const { terms, elsewhereBytes } = onDevice(settings, step.terms, stored.held);
  const spans = [...step.spans].map(([name, bytes]): [string, number] => [name, Math.max(0, bytes - elsewhereBytes)]);
  const bitsHere = settings.stored_bits === "host" ? 0 : bitBytes;
  return {
    settings,
    terms: { ...terms },
    kept: { bitBytes: bitsHere, routingBytes, otherBytes: Math.max(0, terms.keptBytes - bitsHere - routingBytes) },
    spans: spans.map(([name, bytes]) => ({ name, bytes })).sort((a, b) => b.bytes - a.bytes),
    placed: placementOf(settings, terms, {
      hostBytes,
      elsewhereBytes: stored.fileBytes ?? elsewhereBytes,
      storedBytes: stored.hostBytes,
    }),
  };
}
