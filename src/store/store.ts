// Where parameters and optimizer state lie while no block uses them, as a training step sees it. Weights are read in `load`,
// changed in `update`, and a backward pass runs in `backward`: what a store does before and behind these cannot be forgotten.
// A part is a block, or one end of the network. Stored tensors belong to the model and the optimizer.
import type { WrittenProgress } from "../checkpoint/run/state.js";
import type { Architecture } from "../model/architecture.js";
import type { Allocate, Model, PlacedParameter } from "../model/model.js";
import type { State, StateLayout } from "../optim/optimizer.js";
import type { Collectives, NeededRows } from "../parallel/collectives.js";
import { embedding } from "../torch/ops.js";
import { type Rows, device, type DType, fromArray, type Tensor } from "../torch/tensor.js";
import type { StoreTimes } from "./times.js";

/** Parts outside the blocks, which have their layer's number: final norm and head, and the embedding. */
export const HEAD = -1;
export const EMBEDDING = -2;

export interface PlannedState {
  placed: PlacedParameter;
  layout: StateLayout;
}

export interface StateStore {
  /** The state of a parameter that is to be trained: zero, or as an earlier run left it in the store. */
  open(placed: PlacedParameter): State;
  /** The parameter is no longer trained. Opened anew, its state is zero. */
  release(state: State): void;
}

/** Where a stored tensor of the part being loaded is to be read. What `load` returns may share its memory. */
export type InUse = (stored: Tensor) => Tensor;

/**
 * Gives `change` tensors on the device with the values of stored ones, by the same names, and stores what it makes of them. Of the caller's
 * scope, or the store's own.
 */
export type Change = (stored: Record<string, Tensor>, change: (onDevice: Record<string, Tensor>) => void) => void;

export interface HeldBytes {
  weightBytes: number;
  stateBytes: number;
}

export const NOTHING_HELD: HeldBytes = { weightBytes: 0, stateBytes: 0 };

/** How ranks share what is stored, of which each has some rows. */
export interface Sharing {
  /** Those that a rank has of a parameter: this one, unless said otherwise. */
  rows(placed: PlacedParameter, rank?: number): Rows;
  /** The shape of the parameter that a stored tensor is of. */
  shapeOf(stored: Tensor): number[];
  /** Whether experts are used by the rank that holds them, when training; known when there is a model. */
  expertsStay(): boolean;
  /** Of a gradient, as of its parameter. */
  readonly needed: NeededRows;
}

export interface ParameterStore {
  /** Bytes of weights and state that stay in the device's memory; null where all do. */
  readonly held: HeldBytes | null;
  /** Bytes of the device that hold copies of parts, in use and on the way. */
  readonly copiedBytes: number;
  /** Bytes of main memory that hold all parts beside the device. */
  readonly hostBytes: number;
  /** Null where this process has all. */
  readonly sharing: Sharing | null;
  /** Where the weights of a model lie that is being made. */
  readonly allocate: Allocate;
  /** Where optimizer state lies; told of all parameters, trained or not yet. */
  allocateState(planned: PlannedState[]): StateStore;
  /** The model that a run which was cut off left here; null where nothing outlives a run. */
  openModel(): Model | null;
  /** Weights and state are those of the end of a step; training begins. */
  begin(progress: WrittenProgress): void;
  /** Parts are loaded in `work` alone, and in this order. Of those of a block that `stay`, each rank is given what it holds. */
  pass<T>(parts: readonly number[], work: () => T, stays?: (name: string) => boolean): T;
  /** Calls `open` when the weights of a part are there, while the next part's are brought. What it returns may be used until it is freed. */
  load<T>(part: number, open: (inUse: InUse) => T): T;
  /** Rows of the stored embedding, where it is stored; for the caller's scope. */
  lookUp(stored: Tensor, tokens_T: ArrayLike<number>): Tensor;
  /** A backward pass, which updates parts or only measures. */
  backward<T>(updates: boolean, pass: () => T): T;
  /** Weights and state of a part are changed by `change` alone. */
  update<T>(part: number, work: (change: Change) => T): T;
  finishStep(progress: WrittenProgress): void;
  /** Brings weights and state back to the end of the step before; false where what this one has changed was not kept. */
  undoStep(): boolean;
  /** `fill` replaces weights and state, and returns whose they are. A crash meanwhile leaves nothing of them to go on from. */
  replace(fill: () => WrittenProgress): void;
  /** What the steps since the last call spent beside computing. */
  takeTimes(): StoreTimes;
  /** Releases what the store holds, after the model and the state; `finished`: nobody needs what it kept any more. */
  close(finished: boolean): void;
}

/** Of ranks that share what is stored. */
export interface SharedOptions {
  ranks: Pick<Collectives, "rank" | "world" | "gather" | "reads">;
  /** The state of a weight of this dtype, and whether any rows of it may be updated by themselves. */
  stateOf: (placed: PlacedParameter, dtype: DType) => { layout: StateLayout; elementwise: boolean };
  /** Elements that share some of it. */
  stateBlock: number;
  /** Whether experts are used by the rank that holds them, all matrices of each by one. */
  expertsStay?: (planned: readonly { placed: PlacedParameter; dtype: DType }[]) => boolean;
  /** Who holds what, by full name, where that follows from a larger model than this one. */
  shares?: ReadonlyMap<string, readonly Rows[]>;
}

/** What stores are made from; each takes what it needs. */
export interface StoreOptions {
  /** Where the step computes. */
  device: string;
  architecture: Architecture;
  /** A folder of the store's own, which need not exist. */
  folder: string;
  durability: "snapshot" | "step";
  /** Bytes of optimizer state of weights of this dtype. */
  stateBytes: (weightsDtype: DType) => number;
  /** Nothing for a store of one process. */
  shared?: SharedOptions;
  /** Blocks whose weights and state stay in the device's memory, where the others do not. */
  blocksOnDevice: number;
}

/** A row of the registry. */
export interface StoreKind {
  /** For the help, behind its name; nothing where the name says it. */
  about?: string;
  /**
   * Where weights and optimizer state lie: in the device's memory, in main memory beside it, or in files of the run's folder, of which the system
   * keeps in memory what it has room for.
   */
  lies: "device" | "memory" | "files";
  /** Whether that is a share of them on each of several ranks. */
  shared: boolean;
  /** Whether it is of use only beside a device with memory of its own. */
  needsGpu: boolean;
  make(options: StoreOptions): ParameterStore;
  /** For a plan, on an engine that only counts bytes; touches no file. */
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
