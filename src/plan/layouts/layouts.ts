// How ranks divide a step, one row each: the settings that choose it, what it sends over the link that has most to carry, and how many blocks the last
// rank is behind the first. A new layout is a row; times follow.
import { type PlacedParameter, placedParameters, storedDtype } from "../../model/model.js";
import { elementsOf } from "../../optim/optimizer.js";
import { EMBEDDING, partOf } from "../../store/store.js";
import { DTYPES } from "../../torch/types.js";
import type { TrainSettings } from "../../train/settings/settings.js";
import type { Geometry } from "../shadow-step.js";

/** What of a model is sent. */
export interface Sent {
  /** Bytes of all weights, as they are stored. */
  weights: number;
  /** Bytes of all gradients, in float32. */
  gradients: number;
  /** Those of a head that is the embedding, which are summed from both ends; 0 where there is none. */
  tied: number;
}

/** Bytes through the busiest link of a rank, in the direction that has more. */
export interface LinkBytes {
  forward: number;
  /** A backward pass that only measures the norm of all gradients, and the one that updates. */
  measuring: number;
  updating: number;
}

export interface Layout {
  name: string;
  change: Partial<TrainSettings>;
  linkBytes(sent: Sent, world: number): LinkBytes;
  /** Blocks by which the last rank is behind the first in a backward pass. */
  behind(world: number): number;
}

/** Each hands on the sums of those before it, once around before that where the head is the embedding. */
const handedOn = ({ gradients, tied }: Sent): number => gradients + tied;

/** The last rank sends every other one the whole. */
const REPLICAS: Pick<Layout, "linkBytes" | "behind"> = {
  linkBytes: (sent, world) => ({
    forward: 0,
    measuring: handedOn(sent),
    updating: Math.max(handedOn(sent), sent.gradients * (world - 1)),
  }),
  behind: (world) => world - 1,
};

/** All weights but its own come to a rank on both ways, sums from the one before it, and its rows of the whole from the last one. */
const SHARES: Pick<Layout, "linkBytes" | "behind"> = {
  linkBytes: (sent, world) => {
    const weights = (sent.weights * (world - 1)) / world;
    const measuring = weights + handedOn(sent);
    // Of two, the one that is sent its rows is not the one that is sent sums.
    return { forward: weights, measuring, updating: measuring + (world > 2 ? sent.gradients / world : 0) };
  },
  behind: (world) => world - 1,
};

export const LAYOUTS: readonly Layout[] = [
  { name: "replicas", change: { parameters: "device" }, ...REPLICAS },
  { name: "shares in memory", change: { parameters: "sharded" }, ...SHARES },
  { name: "shares in files", change: { parameters: "sharded-disk" }, ...SHARES },
];

export function sentOf({ architecture, dtypeOf }: Geometry): Sent {
  const all = placedParameters(architecture);
  const gradientsOf = (some: PlacedParameter[]): number =>
    some.reduce((sum, { spec }) => sum + DTYPES.float32 * elementsOf(spec.shape), 0);
  const isTied = (placed: PlacedParameter): boolean =>
    architecture.outer.head === null && partOf(architecture, placed) === EMBEDDING;
  return {
    weights: all.reduce((sum, each) => sum + DTYPES[storedDtype(each, dtypeOf(each))] * elementsOf(each.spec.shape), 0),
    gradients: gradientsOf(all.filter(({ spec }) => !spec.buffer)),
    tied: gradientsOf(all.filter(isTied)),
  };
}
