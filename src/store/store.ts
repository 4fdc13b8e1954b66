// Where parameters and optimizer state lie while no block uses them, as a training step sees it. Weights are read in
// `load` and changed in `update`; a backward pass runs in `backward`. So a store's work before and after these cannot
// be forgotten. A part is a block, or one end of the network. Stored tensors belong to the model and the optimizer.
import type { WrittenProgress } from "../checkpoint/run/state.js";
import type { Architecture } from "../model/architecture.js";
import type { Allocate, Model, PlacedParameter } from "../model/model.js";
import type { State, StateLayout } from "../optim/optimizer.js";
import type { Collectives, NeededRows } from "../parallel/collectives.js";
import { embedding } from "../torch/ops.js";
import { type Rows, device, type DType, fromArray, type Tensor } from "../torch/tensor.js";
import type { StoreTimes } from "./times.js";

/** Numbers of the parts outside the blocks: final norm and head, and the embedding. A block has its layer's number. */
export const HEAD = -1;
export const EMBEDDING = -2;

export interface PlannedState {
  placed: PlacedParameter;
  layout: StateLayout;
}

export interface StateStore {
  /** The state of a parameter that will be trained: zero, or as an earlier run left it in the store. */
  open(placed: PlacedParameter): State;
  /** Ends the training of a parameter. If it is opened again, its state is zero. */
  release(state: State): void;
}

/** Where to read a stored tensor of the part that is loaded. What `load` returns may share its memory. */
export type InUse = (stored: Tensor) => Tensor;

/**
 * Gives `change` the values of stored tensors, by the same names, on the device, and stores what it makes of them.
 * These tensors belong to the caller's scope or to the store.
 */
export type Change = (stored: Record<string, Tensor>, change: (onDevice: Record<string, Tensor>) => void) => void;

export interface HeldBytes {
  weightBytes: number;
  stateBytes: number;
}

export const NOTHING_HELD: HeldBytes = { weightBytes: 0, stateBytes: 0 };

/** How ranks share what is stored: each has some rows. */
export interface Sharing {
  /** The rows of a parameter that a rank has; this rank by default. */
  rows(placed: PlacedParameter, rank?: number): Rows;
  /** The whole shape of the parameter that a stored tensor is part of. */
  shapeOf(stored: Tensor): number[];
  /** Whether, in training, only the rank that holds an expert uses it. Known once there is a model. */
  expertsStay(): boolean;
  /** The rows of a gradient's sum that a rank needs: those that it holds of the parameter. */
  readonly needed: NeededRows;
}

export interface ParameterStore {
  /** Bytes of weights and state that stay in the device's memory; null where all do. */
  readonly held: HeldBytes | null;
  /** Bytes of the device that hold copies of parts, in use or on their way. */
  readonly copiedBytes: number;
  /** Bytes of main memory that hold parts beside the device. */
  readonly hostBytes: number;
  /** Null where this process holds everything. */
  readonly sharing: Sharing | null;
  /** Gives the weights of a new model their places. */
  readonly allocate: Allocate;
  /** Gives optimizer state its place; `planned` has all parameters, trained or not yet. */
  allocateState(planned: PlannedState[]): StateStore;
  /** The model that an interrupted run left here; null where nothing outlives a run. */
  openModel(): Model | null;
  /** Weights and state are now those of the end of a step; training begins. */
  begin(progress: WrittenProgress): void;
  /**
   * Runs `work`, which alone may load parts, in this order. Of a block's parameters that `stay`, each rank gets only
   * what it holds.
   */
  pass<T>(parts: readonly number[], work: () => T, stays?: (name: string) => boolean): T;
  /**
   * Calls `open` when a part's weights are there, while the next part's are fetched. The result may be used until it is
   * freed.
   */
  load<T>(part: number, open: (inUse: InUse) => T): T;
  /** Rows of the stored embedding, on the device that stores it; for the caller's scope. */
  lookUp(stored: Tensor, tokens_T: ArrayLike<number>): Tensor;
  /** Runs a backward pass, which updates parts or only measures. */
  backward<T>(updates: boolean, pass: () => T): T;
  /** Runs `work`, whose argument is the only way to change weights and state of a part. */
  update<T>(part: number, work: (change: Change) => T): T;
  finishStep(progress: WrittenProgress): void;
  /** Brings weights and state back to the end of the step before; false if this step's old values were not kept. */
  undoStep(): boolean;
  /**
   * `fill` replaces weights and state, and returns their progress. After a crash in it, nothing is left to go on from.
   */
  replace(fill: () => WrittenProgress): void;
  /** The times that steps since the last call spent beside computing. */
  takeTimes(): StoreTimes;
  /**
   * Frees what the store holds, after the model and the state. `finished`: nobody needs what it kept on disk any more.
   */
  close(finished: boolean): void;
}

/** Options of ranks that share what is stored. */
export interface SharedOptions {
  ranks: Pick<Collectives, "rank" | "world" | "gather" | "reads">;
  /** The state of a weight of this dtype, and whether any of its rows may be updated alone. */
  stateOf: (placed: PlacedParameter, dtype: DType) => { layout: StateLayout; elementwise: boolean };
  /** Number of neighbouring elements that share a piece of state. */
  stateBlock: number;
  /** Whether only the rank that holds an expert uses it; then one rank holds all matrices of it. */
  expertsStay?: (planned: readonly { placed: PlacedParameter; dtype: DType }[]) => boolean;
  /** Which rank holds what, by full name, where a larger model than this one decides that. */
  shares?: ReadonlyMap<string, readonly Rows[]>;
}

/** Arguments of stores; each store takes what it needs. */
export interface StoreOptions {
  /** Where the step computes. */
  device: string;
  architecture: Architecture;
  /** A folder of the store's own, which need not exist. */
  folder: string;
  durability: "snapshot" | "step";
  /** Bytes of optimizer state, if weights have this dtype. */
  stateBytes: (weightsDtype: DType) => number;
  /** Missing for a store of one process. */
  shared?: SharedOptions;
  /** Number of blocks whose weights and state stay in the device's memory, where the others do not. */
  blocksOnDevice: number;
}

/** A row of the registry. */
export interface StoreKind {
  /** Its help, behind its name; missing where the name says enough. */
  about?: string;
  /**
   * Where weights and optimizer state lie: in the device's memory, in main memory beside it, or in files of the run's
   * folder, which the system keeps in memory as far as there is room.
   */
  lies: "device" | "memory" | "files";
  /** Whether each of several ranks holds only a share of them. */
  shared: boolean;
  /** Whether it is useful only with a device that has memory of its own. */
  needsGpu: boolean;
  make(options: StoreOptions): ParameterStore;
  /** Makes a store for a plan, on an engine that only counts bytes; touches no file. */
  makePlanned(options: Pick<StoreOptions, "device" | "architecture" | "blocksOnDevice" | "shared">): ParameterStore;
}

/** Whether a process has all weights and state in the memory of its device. */
export const hasAllOnDevice = ({ lies, shared }: Pick<StoreKind, "lies" | "shared">): boolean =>
  lies === "device" && !shared;

/** All parts in the order of the forward pass. */
export const partsOf = ({ layers }: Architecture): number[] => [EMBEDDING, ...layers.map((_, i) => i), HEAD];

export function partOf({ outer }: Architecture, { layer, spec }: PlacedParameter): number {
  if (layer >= 0) return layer;
  return spec.name === outer.embedding.name ? EMBEDDING : HEAD;
}

/** A parameter's full name. */
export const nameOf = ({ prefix, spec }: PlacedParameter): string => prefix + spec.name;

/** Rows of an embedding by tokens, for the caller's scope. */
export const lookUpStored = (weight_VD: Tensor, tokens_T: ArrayLike<number>): Tensor =>
  embedding(weight_VD, fromArray(tokens_T, [tokens_T.length], "int64", device(weight_VD)));
