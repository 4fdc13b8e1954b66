// Where parameters and optimizer state lie while no block uses them, as a training step sees it: parts are entered before
// they are read, and changed between `beginUpdate` and `endUpdate`. A part is a block, or one end of the network.
import type { WrittenProgress } from "../checkpoint/run/state.js";
import type { Architecture, ModelConfig } from "../model/architecture.js";
import type { Allocate, Model, PlacedParameter } from "../model/model.js";
import type { DType, Tensor } from "../torch/tensor.js";

/** Parts outside the blocks, which have their layer's number: final norm and head, and the embedding. */
export const HEAD = -1;
export const EMBEDDING = -2;

export type StateLayout = Record<string, { shape: readonly number[]; dtype: DType }>;

/** Where an optimizer's update finds what lies elsewhere, and where it leaves it. */
export interface Staging {
  /** A tensor on the device `on` with the values of a stored one, to be changed; for the caller's scope, or the tier's own. */
  take(stored: Tensor, on: string): Tensor;
  /** The stored tensor has the values of what `take` gave. */
  give(stored: Tensor, changed: Tensor): void;
}

export interface Tier {
  readonly name: "host" | "disk";
  /** Room for the weights of a model that is being made. */
  readonly allocate: Allocate;
  /** Room for all optimizer state, zero or as it was left; returns that of a parameter. */
  readonly allocateState: (
    planned: { placed: PlacedParameter; layout: StateLayout }[],
  ) => (placed: PlacedParameter) => Record<string, Tensor>;
  /** For updates, where what is stored is not to be changed in place. */
  readonly staging?: Staging;
  /** What of the part that was entered last is on the device already, of a stored tensor. */
  here?(stored: Tensor): Tensor | undefined;
  /** Bytes of the device that hold parts in use and on the way. */
  readonly deviceBytes?: number;
  /** Bytes of main memory that hold all parts. */
  readonly storedBytes?: number;
  /** The model of a run that was cut off, where the tier kept it. */
  openModel?(): Model;
  /** Weights and state are those of the end of a step; training begins. */
  begin(progress: WrittenProgress): void;
  /** Brings weights and state back to the end of the step before, where what this one has changed was kept. */
  undoStep?(): boolean;
  /** Weights and state are about to be replaced: nothing of them can be gone on from until `begin`. */
  abandon(): void;
  /** A backward pass begins, on which parts are updated or only measured; or it has ended, also by an error, and nothing is updated. */
  wayBack?(updates: boolean): void;
  /** Before a part's weights are read: waits until they are there, and begins to bring the part that will be next. */
  enter(part: number): void;
  /** Before a part's weights and state are changed. */
  beginUpdate(part: number): void;
  endUpdate(part: number): void;
  finishStep(progress: WrittenProgress): void;
  /** Milliseconds of the steps since the last call that were not computing. */
  takeTimes(): TierTimes;
  /** Releases what the tier holds, after the model and the state; `finished`: nobody needs what it kept any more. */
  close(finished: boolean): void;
}

export interface TierTimes {
  /** Waiting for a part to be there; on a GPU, which waits by itself, asking for it. */
  waitMs: number;
  /** Norm, clipping and update of weights and state, and the gradients of experts in groups. */
  updateMs: number;
  /** Keeping old bytes before they are changed. */
  logMs: number;
  /** Waiting at the end of a step until all changes are kept. */
  syncMs: number;
}

/** All parts in the order of the forward pass. */
export const partsOf = ({ numLayers }: ModelConfig): number[] => [
  EMBEDDING,
  ...Array.from({ length: numLayers }, (_, i) => i),
  HEAD,
];

export function partOf(architecture: Architecture, config: ModelConfig, { layer, spec }: PlacedParameter): number {
  if (layer >= 0) return layer;
  return spec.name === architecture.outerParameters(config).embedding.name ? EMBEDDING : HEAD;
}
