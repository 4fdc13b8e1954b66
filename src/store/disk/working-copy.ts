// The parameters and the optimizer state of a run on disk: a folder with a file of weights and one of state for every
// part, mapped and updated in place. With durability "snapshot" it is worth nothing after a crash: the run goes back to
// its last checkpoint. With "step", an undo log and the trainer's state beside it bring it back to the end of the last
// step. Owns files and mappings. The tensors belong to the model and the optimizer; `close` frees those that are still
// alive.
import { existsSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

import { STATE_FILE } from "../../checkpoint/run/checkpoints.js";
import { checkFreeSpace, makeFolders, sync, writeFileDurably } from "../../checkpoint/files/disk.js";
import { progressText, type WrittenProgress } from "../../checkpoint/run/state.js";
import { byteLength } from "../../checkpoint/safetensors/header.js";
import { UserError } from "../../errors.js";
import type { Architecture } from "../../model/architecture.js";
import { buildModel, type Allocate, type Model, type PlacedParameter } from "../../model/model.js";
import type { State, StateLayout } from "../../optim/optimizer.js";
import { copy_, fill_ } from "../../torch/ops.js";
import { free, isAlive } from "../../torch/scope.js";
import { dtype as dtypeOf, type DType, shape as shapeOf, type Tensor, to } from "../../torch/tensor.js";
import { createPartFile, openPartFile, type PartFile, type PartTensor } from "./part-file.js";
import { PageFlow } from "./page-flow.js";
import {
  type Change,
  EMBEDDING,
  HEAD,
  type InUse,
  lookUpStored,
  nameOf,
  NOTHING_HELD,
  type ParameterStore,
  partOf,
  partsOf,
  type PlannedState,
  type StateStore,
  type StoreKind,
  type StoreOptions,
} from "../store.js";
import { deviceStore } from "../device.js";
import { Stopwatch, type StoreTimes } from "../times.js";
import { rollBack, UNDO_FILE, UndoLog } from "./undo-log.js";
import { isCpu } from "../../torch/device.js";

export class WorkingCopy implements ParameterStore {
  readonly sharing = null;
  readonly held = NOTHING_HELD;
  readonly copiedBytes = 0;
  /** 0, because files are mapped: the system keeps as much of them in memory as it has room for. */
  readonly hostBytes = 0;
  readonly #folder: string;
  readonly #architecture: Architecture;
  readonly #options: StoreOptions;
  readonly #change: Change;
  readonly #weights = new Map<number, PartFile>();
  readonly #states = new Map<number, PartFile>();
  readonly #flow: PageFlow;
  readonly #changed = new Set<number>();
  #log: UndoLog | null = null;
  #step = 0;
  readonly #times = new Stopwatch();
  /** Whether the files come from an earlier run. */
  #opened = false;
  /** Whether a later run can go on with the folder as it is. */
  #lasts = false;

  constructor(options: StoreOptions) {
    this.#folder = options.folder;
    this.#architecture = options.architecture;
    this.#options = options;
    this.#change = isCpu(options.device) ? inPlace : throughCopies(options.device);
    this.#flow = new PageFlow(partsOf(options.architecture));
  }

  /** Makes the folder anew, for a model that is then filled with values. */
  readonly allocate: Allocate = (planned) => {
    rmSync(this.#folder, { recursive: true, force: true });
    const weightBytes = planned.reduce((sum, { placed, dtype }) => sum + byteLength(dtype, placed.spec.shape), 0);
    const bytes = weightBytes + this.#options.stateBytes(planned[0].dtype);
    checkFreeSpace(this.#folder, this.#options.durability === "step" ? 2 * bytes : bytes);
    makeFolders(this.#folder);
    const tensors = planned.map(({ placed, dtype }) => ({
      placed,
      name: nameOf(placed),
      dtype,
      shape: placed.spec.shape,
    }));
    for (const [part, some] of this.#byPart(tensors))
      this.#addWeights(part, createPartFile(this.#path(part, "weights"), some));
    let filling: number | null = null;
    return (placed) => {
      const part = partOf(this.#architecture, placed);
      if (filling !== null && filling !== part) this.#weights.get(filling)?.mapping.writeBack();
      filling = part;
      return this.#weights.get(part)?.tensors.get(nameOf(placed)) as Tensor;
    };
  };

  /** The model that is in the folder. */
  openModel(): Model {
    this.#opened = true;
    this.#lasts = true;
    for (const part of partsOf(this.#architecture)) {
      const path = this.#path(part, "weights");
      if (existsSync(path)) this.#addWeights(part, openPartFile(path));
    }
    return buildModel(this.#architecture, (placed) => {
      const part = partOf(this.#architecture, placed);
      return this.#fitting(this.#weights.get(part), part, { name: nameOf(placed), shape: placed.spec.shape });
    });
  }

  allocateState(planned: PlannedState[]): StateStore {
    const tensors = planned.flatMap(({ placed, layout }) =>
      Object.entries(layout).map(([kind, { shape, dtype }]) => ({
        placed,
        name: `${kind}.${nameOf(placed)}`,
        dtype,
        shape,
      })),
    );
    for (const [part, some] of this.#byPart(tensors)) {
      const path = this.#path(part, "state");
      this.#states.set(part, this.#opened ? openPartFile(path) : createPartFile(path, some));
    }
    for (const [part, { mapping }] of this.#weights)
      this.#flow.set(part, { weights: mapping, state: this.#states.get(part)?.mapping });
    const layouts = new Map(planned.map(({ placed, layout }) => [nameOf(placed), layout]));
    const open = (placed: PlacedParameter): State => {
      const part = partOf(this.#architecture, placed);
      const of = ([kind, { shape, dtype }]: [string, StateLayout[string]]): [string, Tensor] => [
        kind,
        this.#fitting(this.#states.get(part), part, { name: `${kind}.${nameOf(placed)}`, shape, dtype }),
      ];
      return Object.fromEntries(Object.entries(layouts.get(nameOf(placed)) as StateLayout).map(of));
    };
    const release = (state: State): void => {
      for (const tensor of Object.values(state)) fill_(tensor, 0);
    };
    return { open, release };
  }

  /** Weights and state are now those of the end of a step; from here on the promise of `durability` holds. */
  begin(progress: WrittenProgress): void {
    this.#step = progress.step;
    if (this.#options.durability === "step") {
      this.#log = new UndoLog(this.#folder);
      for (const { mapping } of [...this.#weights.values(), ...this.#states.values()]) mapping.sync();
      this.#writeProgress(progress);
      this.#lasts = true;
    } else {
      this.#lasts = false;
      rmSync(join(this.#folder, STATE_FILE), { force: true });
      rmSync(join(this.#folder, UNDO_FILE), { force: true });
      sync(this.#folder);
      for (const { mapping } of [...this.#weights.values(), ...this.#states.values()]) mapping.writeBack();
    }
  }

  undoStep(): boolean {
    if (this.#log === null) return false;
    rollBack(this.#folder, this.#step);
    this.#log.clear();
    this.#changed.clear();
    return true;
  }

  replace(fill: () => WrittenProgress): void {
    this.#log?.close();
    this.#log = null;
    this.#lasts = false;
    this.#changed.clear();
    for (const file of [STATE_FILE, UNDO_FILE]) rmSync(join(this.#folder, file), { force: true });
    sync(this.#folder);
    this.begin(fill());
  }

  pass<T>(_parts: readonly number[], work: () => T): T {
    return work();
  }

  readonly lookUp = lookUpStored;

  load<T>(part: number, open: (inUse: InUse) => T): T {
    this.#load(part);
    return open((stored) => stored);
  }

  backward<T>(_updates: boolean, pass: () => T): T {
    return pass();
  }

  update<T>(part: number, work: (change: Change) => T): T {
    // The embedding's turn is here: looking up its rows does not load it.
    if (part === EMBEDDING) this.#load(part);
    else if (part !== this.#flow.current) this.#times.measure("waitMs", () => this.#flow.return(part));
    this.#times.measure("logMs", () => {
      if (this.#log !== null && !this.#changed.has(part)) this.#log.append(this.#step + 1, this.#mappings(part));
    });
    this.#changed.add(part);
    const made = this.#times.measure("updateMs", () => work(this.#change));
    this.#flow.changed(part);
    return made;
  }

  /** Ends a step. With durability "step", all its changes are on the disk when this returns. */
  finishStep(progress: WrittenProgress): void {
    this.#step = progress.step;
    this.#times.measure("syncMs", () => {
      if (this.#log === null) return;
      for (const part of this.#changed) for (const mapping of this.#mappings(part)) mapping.sync();
      this.#writeProgress(progress);
      this.#log.clear();
    });
    this.#changed.clear();
  }

  takeTimes(): StoreTimes {
    return this.#times.take();
  }

  /** Removes the folder, unless a later run can go on with it. */
  close(finished: boolean): void {
    for (const { mapping, tensors } of [...this.#weights.values(), ...this.#states.values()]) {
      free(...[...tensors.values()].filter(isAlive));
      mapping.close();
    }
    this.#weights.clear();
    this.#states.clear();
    this.#log?.close();
    if (finished || !this.#lasts) rmSync(this.#folder, { recursive: true, force: true });
    this.#log = null;
  }

  #load(part: number): void {
    this.#times.measure("waitMs", () => this.#flow.enter(part));
  }

  #addWeights(part: number, file: PartFile): void {
    this.#weights.set(part, file);
    this.#flow.set(part, { weights: file.mapping });
  }

  #mappings(part: number) {
    return [this.#weights, this.#states].flatMap((files) => files.get(part)?.mapping ?? []);
  }

  #writeProgress(progress: WrittenProgress): void {
    const path = join(this.#folder, STATE_FILE);
    writeFileDurably(`${path}.new`, progressText(progress));
    renameSync(`${path}.new`, path);
    sync(this.#folder);
  }

  #byPart(tensors: (PartTensor & { placed: PlacedParameter })[]): Map<number, PartTensor[]> {
    const parts = new Map<number, PartTensor[]>();
    for (const tensor of tensors) {
      const part = partOf(this.#architecture, tensor.placed);
      parts.set(part, [...(parts.get(part) ?? []), tensor]);
    }
    return parts;
  }

  #path(part: number, kind: "weights" | "state"): string {
    const name = part === EMBEDDING ? "embedding" : part === HEAD ? "head" : `block-${String(part).padStart(3, "0")}`;
    return join(this.#folder, `${name}${kind === "state" ? "-state" : ""}.safetensors`);
  }

  #fitting(
    file: PartFile | undefined,
    part: number,
    { name, shape, dtype }: { name: string; shape: readonly number[]; dtype?: DType },
  ): Tensor {
    const tensor = file?.tensors.get(name);
    if (
      tensor !== undefined &&
      shapeOf(tensor).join() === shape.join() &&
      (dtype ?? dtypeOf(tensor)) === dtypeOf(tensor)
    )
      return tensor;
    const found = tensor === undefined ? "missing" : `${dtypeOf(tensor)} [${shapeOf(tensor).join(", ")}]`;
    throw new UserError(
      `${file?.mapping.path ?? this.#path(part, "weights")}: ${name} is ${found} (expected ${dtype ?? "numbers"} [${shape.join(", ")}]). ` +
        "The working copy is of another model or optimizer: resume from a checkpoint-N folder, or start anew with overwrite_output_dir.",
    );
  }
}

const inPlace: Change = (stored, change) => change(stored);

/** A device other than the CPU cannot change mapped files, which are main memory. */
const throughCopies =
  (device: string): Change =>
  (stored, change) => {
    const copies = Object.entries(stored).map(([name, tensor]) => [name, to(tensor, dtypeOf(tensor), device)] as const);
    change(Object.fromEntries(copies));
    for (const [name, copy] of copies) copy_(stored[name], copy);
  };

export const disk: StoreKind = {
  about: "in files in output_dir/working, updated in place",
  lies: "files",
  shared: false,
  needsGpu: false,
  make: (options) => new WorkingCopy(options),
  // Planned as if all were on the device; plan/placement.ts says where it is.
  makePlanned: ({ device }) => deviceStore(device),
};
