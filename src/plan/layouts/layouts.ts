// How ranks divide a step, one row each: the settings that choose it, what it sends over the link that has most to carry, and how many blocks the last
// rank is behind the first. A new layout is a row; times follow.
import { isExpertMatrix } from "../../model/expert-rows.js";
import { type PlacedParameter, placedParameters, storedDtype } from "../../model/model.js";
import { elementsOf } from "../../optim/optimizer.js";
import type { SumOrder } from "../../parallel/collectives.js";
import { EMBEDDING, partOf } from "../../store/store.js";
import { DTYPES } from "../../torch/types.js";
import { tokensOf, tripBytes } from "../../train/ranks/expert-sharing.js";
import type { TrainSettings } from "../../train/settings/settings.js";
import type { Geometry } from "../shadow-step.js";

/** What of a step is sent. */
export interface Sent {
  /** Bytes of all weights, as they are stored. */
  weights: number;
  /** Bytes of all gradients, in float32. */
  gradients: number;
  /** Those of a head that is the embedding, which are summed from both ends; 0 where there is none. */
  tied: number;
  /** Of these weights and gradients, those of experts' matrices. */
  experts: { weights: number; gradients: number };
  /** Bytes of a rank's rows to experts and back. */
  rows: { forward: number; backward: number };
}

/** Bytes through the busiest link of a rank, in the direction that has more. */
export interface LinkBytes {
  forward: number;
  /** A backward pass that only measures the norm of all gradients, and the one that updates. */
  measuring: number;
  updating: number;
  /** In each pass beside these, what is waited for while nothing is computed; nothing unless said otherwise. */
  awaited?: { forward: number; backward: number };
}

export interface Layout {
  name: string;
  change: Partial<TrainSettings>;
  /** Only for models with experts. */
  needsExperts?: true;
  linkBytes(sent: Sent, world: number): LinkBytes;
  /** Blocks by which the last rank is behind the first in a backward pass. */
  behind(world: number): number;
}

type Way = Pick<Layout, "linkBytes" | "behind">;

/** Each hands on the sums of those before it, once around before that where the head is the embedding. */
const handedOn = ({ gradients, tied }: Sent): number => gradients + tied;
const away = (bytes: number, world: number): number => (bytes * (world - 1)) / world;

/** The last rank sends every other one the whole. */
const ORDERED: Way = {
  linkBytes: (sent, world) => ({
    forward: 0,
    measuring: handedOn(sent),
    updating: Math.max(handedOn(sent), sent.gradients * (world - 1)),
  }),
  behind: (world) => world - 1,
};

/** Each rank sums a share, and sends it to all. */
const DIRECT: Way = {
  linkBytes: ({ gradients }, world) => ({
    forward: 0,
    measuring: away(gradients, world),
    updating: 2 * away(gradients, world),
  }),
  behind: () => 0,
};

/** All weights but its own come to a rank on both ways, sums from the one before it, and its rows of the whole from the last one. */
const SHARES_ORDERED: Way = {
  linkBytes: (sent, world) => {
    const weights = away(sent.weights, world);
    const measuring = weights + handedOn(sent);
    // Of two, the one that is sent its rows is not the one that is sent sums.
    return { forward: weights, measuring, updating: measuring + (world > 2 ? sent.gradients / world : 0) };
  },
  behind: (world) => world - 1,
};

/** Each rank is sent what it sums, which is what it keeps. */
const SHARES_DIRECT: Way = {
  linkBytes: ({ weights, gradients }, world) => {
    const backward = away(weights + gradients, world);
    return { forward: away(weights, world), measuring: backward, updating: backward };
  },
  behind: () => 0,
};

/** Weights and gradients of experts stay where they are; a layer waits for its rows. */
const ROWS: Way = {
  linkBytes: ({ weights, gradients, experts, rows }, world) => {
    const brought = weights - experts.weights;
    const backward = away(brought + gradients - experts.gradients, world);
    const awaited = { forward: away(rows.forward, world), backward: away(rows.backward, world) };
    return { forward: away(brought, world), measuring: backward, updating: backward, awaited };
  },
  behind: () => 0,
};

const STORED = [
  { where: "replicas", parameters: "device", ordered: ORDERED, direct: DIRECT },
  { where: "shares in memory", parameters: "sharded", ordered: SHARES_ORDERED, direct: SHARES_DIRECT },
  { where: "shares in files", parameters: "sharded-disk", ordered: SHARES_ORDERED, direct: SHARES_DIRECT },
] as const;

export const LAYOUTS: readonly Layout[] = STORED.flatMap(({ where, parameters, ordered, direct }): Layout[] => {
  const change = (rank_sums: SumOrder, share_experts: "weights" | "rows" = "weights") =>
    parameters === "device" ? { parameters, rank_sums } : { parameters, rank_sums, share_experts };
  return [
    { name: where, change: change("ordered"), ...ordered },
    { name: `${where}, direct sums`, change: change("direct"), ...direct },
    ...(parameters === "device"
      ? []
      : [
          { name: `${where}, rows to experts`, change: change("direct", "rows"), needsExperts: true as const, ...ROWS },
        ]),
  ];
});

export function sentOf({ architecture, dtypeOf }: Geometry, settings: TrainSettings, world: number): Sent {
  const all = placedParameters(architecture);
  const weightsOf = (some: PlacedParameter[]): number =>
    some.reduce((sum, each) => sum + DTYPES[storedDtype(each, dtypeOf(each))] * elementsOf(each.spec.shape), 0);
  const gradientsOf = (some: PlacedParameter[]): number =>
    some.reduce((sum, { spec }) => sum + DTYPES.float32 * elementsOf(spec.shape), 0);
  const isTied = (placed: PlacedParameter): boolean =>
    architecture.outer.head === null && partOf(architecture, placed) === EMBEDDING;
  const experts = all.filter(({ spec }) => isExpertMatrix(spec));
  const trips = tripBytes(settings, architecture, world);
  const tokens = tokensOf(settings);
  return {
    weights: weightsOf(all),
    gradients: gradientsOf(all.filter(({ spec }) => !spec.buffer)),
    tied: gradientsOf(all.filter(isTied)),
    experts: { weights: weightsOf(experts), gradients: gradientsOf(experts) },
    rows: { forward: trips.forward * tokens, backward: trips.backward * tokens },
  };
}
