// Parameters and optimizer state in pinned main memory, while a GPU computes. The part that was loaded last is on the
// device. Meanwhile the next part is copied there, in a backward pass with its state; what an update changed is copied
// back while the next part computes. Some blocks may stay on the device, spread evenly among the others, so that copies
// go on while they compute. Owns slabs of main memory and copies on the device; the stored tensors belong to the model
// and the optimizer.
import { UserError } from "../errors.js";
import { formatBytes } from "../format.js";
import type { Allocate, PlacedParameter } from "../model/model.js";
import type { WrittenProgress } from "../checkpoint/run/state.js";
import { awaitCopies, copyAsync } from "../torch/async-copy.js";
import { isCpu, synchronize } from "../torch/device.js";
import { clone, copy_, fill_ } from "../torch/ops.js";
import { free, isAlive, keep } from "../torch/scope.js";
import { byteSize, dtype, empty, emptyPinned, shape, type Tensor, to } from "../torch/tensor.js";
import { PartOrder } from "./part-order.js";
import { allocateSlabs, layOut, type Wanted } from "./slabs.js";
import {
  type Change,
  type HeldBytes,
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
} from "./store.js";
import { Stopwatch, type StoreTimes } from "./times.js";

/** Copies of a part on the device, by the stored tensor that they copy. */
interface Copies {
  part: number;
  of: Map<Tensor, Tensor>;
}

/** Whether block i stays on the device, where `held` of `count` blocks do, spread evenly. */
const isHeld = (i: number, held: number, count: number): boolean =>
  Math.floor(((i + 1) * held) / count) > Math.floor((i * held) / count);

export class HostStore implements ParameterStore {
  readonly sharing = null;
  readonly held: HeldBytes = { ...NOTHING_HELD };
  readonly #device: string;
  readonly #partOf: (placed: PlacedParameter) => number;
  readonly #order: PartOrder;
  readonly #weights = new Map<number, Tensor[]>();
  readonly #states = new Map<number, Tensor[]>();
  readonly #heldParts: ReadonlySet<number>;
  readonly #slabs: Tensor[] = [];
  #loaded: Copies | null = null;
  #next: Copies | null = null;
  /** Parts whose copy back to main memory was begun in this step. */
  readonly #sent = new Set<number>();
  /** Whether parts that are loaded will be updated, and so need their state. */
  #updates = false;
  readonly #times = new Stopwatch();

  /** Without a GPU (for tests), the host is its own device: the same copies, but neither pinned nor asynchronous. */
  constructor({
    device,
    architecture,
    blocksOnDevice,
  }: Pick<StoreOptions, "device" | "architecture" | "blocksOnDevice">) {
    this.#device = device;
    const { length: count } = architecture.layers;
    this.#heldParts = new Set(
      [...architecture.layers.keys()].filter((i) => isHeld(i, Math.min(blocksOnDevice, count), count)),
    );
    this.#partOf = (placed) => partOf(architecture, placed);
    this.#order = new PartOrder(partsOf(architecture));
  }

  readonly allocate: Allocate = (planned) => {
    const tensors = this.#allocate(
      "weightBytes",
      planned.map(({ placed, dtype }) => ({ placed, name: nameOf(placed), shape: placed.spec.shape, dtype })),
    );
    for (const { placed } of planned) this.#add(this.#weights, placed, [tensors.get(nameOf(placed)) as Tensor]);
    return (placed) => tensors.get(nameOf(placed)) as Tensor;
  };

  allocateState(planned: PlannedState[]): StateStore {
    const wanted = planned.flatMap(({ placed, layout }) =>
      Object.entries(layout).map(([kind, { shape, dtype }]) => ({
        ...{ placed, shape, dtype },
        name: `${kind}.${nameOf(placed)}`,
      })),
    );
    const tensors = this.#allocate("stateBytes", wanted);
    for (const tensor of tensors.values()) fill_(tensor, 0);
    const states = new Map(
      planned.map(({ placed, layout }) => {
        const state = Object.fromEntries(
          Object.keys(layout).map((kind) => [kind, tensors.get(`${kind}.${nameOf(placed)}`) as Tensor]),
        );
        this.#add(this.#states, placed, Object.values(state));
        return [nameOf(placed), state];
      }),
    );
    return {
      open: (placed) => states.get(nameOf(placed)) as Record<string, Tensor>,
      release: (state) => {
        for (const tensor of Object.values(state)) fill_(tensor, 0);
      },
    };
  }

  get copiedBytes(): number {
    const copies = [this.#loaded, this.#next].flatMap((part) => [...(part?.of.values() ?? [])]);
    return copies.reduce((sum, copy) => sum + byteSize(copy), 0);
  }

  get hostBytes(): number {
    return this.#slabs.reduce((sum, slab) => sum + byteSize(slab), 0);
  }

  openModel(): null {
    return null;
  }

  begin(): void {}

  pass<T>(_parts: readonly number[], work: () => T): T {
    return work();
  }

  readonly lookUp = lookUpStored;

  load<T>(part: number, open: (inUse: InUse) => T): T {
    this.#load(part);
    return open((stored) => this.#loaded?.of.get(stored) ?? stored);
  }

  backward<T>(updates: boolean, pass: () => T): T {
    this.#updates = updates;
    try {
      return pass();
    } finally {
      this.#updates = false;
    }
  }

  update<T>(part: number, work: (change: Change) => T): T {
    if (part !== this.#order.current) this.#load(part);
    try {
      return this.#times.measure("updateMs", () => work(this.#change));
    } finally {
      // The copy differs from what is stored: experts in groups were changed only there, a failed update only here.
      this.#dropLoaded();
    }
  }

  finishStep(): void {
    this.#times.measure("syncMs", () => synchronize(this.#device));
    this.#sent.clear();
  }

  undoStep(): boolean {
    return false;
  }

  replace(fill: () => WrittenProgress): void {
    this.#dropLoaded();
    this.#dropNext();
    synchronize(this.#device);
    this.#sent.clear();
    fill();
  }

  takeTimes(): StoreTimes {
    return this.#times.take();
  }

  close(): void {
    this.#dropLoaded();
    this.#dropNext();
    synchronize(this.#device);
    const stored = [this.#weights, this.#states].flatMap((parts) => [...parts.values()].flat());
    free(...stored.filter(isAlive), ...this.#slabs);
    for (const parts of [this.#weights, this.#states]) parts.clear();
    this.#slabs.length = 0;
  }

  #load(part: number): void {
    this.#times.measure("waitMs", () => {
      const ahead = this.#order.enter(part, (each) => !this.#heldParts.has(each));
      if (this.#heldParts.has(part)) this.#dropLoaded();
      else if (this.#loaded?.part !== part) {
        this.#dropLoaded();
        const isNext = this.#next?.part === part;
        if (!isNext) this.#dropNext();
        this.#loaded = isNext ? this.#next : this.#bring(part);
        this.#next = null;
        awaitCopies(this.#device, "in");
      }
      if (ahead !== undefined && this.#next?.part !== ahead) {
        this.#dropNext();
        this.#next = this.#bring(ahead);
      }
    });
  }

  readonly #change: Change = (stored, change) => {
    if (this.#heldParts.has(this.#order.current)) return change(stored);
    const copies = Object.entries(stored).map(([name, tensor]) => [name, this.#copyOf(tensor)] as const);
    change(Object.fromEntries(copies));
    for (const [name, copy] of copies) this.#store(stored[name], copy);
  };

  #copyOf(stored: Tensor): Tensor {
    const loaded = this.#loaded?.of.get(stored);
    return loaded ?? (isCpu(this.#device) ? clone(stored) : to(stored, dtype(stored), this.#device));
  }

  #store(stored: Tensor, changed: Tensor): void {
    if (this.#loaded?.of.get(stored) !== changed) return void copy_(stored, changed);
    copyAsync(stored, changed);
    this.#sent.add(this.#loaded.part);
  }

  #allocate(kind: keyof HeldBytes, all: (Wanted & { placed: PlacedParameter })[]): Map<string, Tensor> {
    const make = isCpu(this.#device) ? empty : emptyPinned;
    const stays = ({ placed }: { placed: PlacedParameter }): boolean => this.#heldParts.has(this.#partOf(placed));
    const wanted = all.filter((each) => !stays(each));
    const held = all
      .filter(stays)
      .map(({ name, shape: size, dtype }): [string, Tensor] => [name, keep(empty([...size], dtype, this.#device))]);
    this.held[kind] += held.reduce((sum, [, tensor]) => sum + byteSize(tensor), 0);
    try {
      const { slabs, tensors } = allocateSlabs(wanted, (bytes) => make([bytes], "uint8"));
      this.#slabs.push(...slabs);
      return new Map([...tensors, ...held]);
    } catch (failure) {
      free(...held.map(([, tensor]) => tensor));
      const bytes = layOut(wanted).slabs.reduce((sum, each) => sum + each, 0);
      throw new UserError(
        `parameters: host needs ${formatBytes(bytes)} of main memory that stays there (pinned), which the system refused: ` +
          `${(failure as Error).message.split("\n")[0].slice(0, 200)}. Set parameters to disk, or use an optimizer with less state, or more memory.`,
      );
    }
  }

  #add(parts: Map<number, Tensor[]>, placed: PlacedParameter, tensors: Tensor[]): void {
    const part = this.#partOf(placed);
    parts.set(part, [...(parts.get(part) ?? []), ...tensors]);
  }

  #bring(part: number): Copies {
    if (this.#sent.has(part)) awaitCopies(this.#device, "out");
    const stored = [...(this.#weights.get(part) ?? []), ...(this.#updates ? (this.#states.get(part) ?? []) : [])];
    const of = new Map<Tensor, Tensor>();
    try {
      for (const tensor of stored.filter(isAlive)) {
        const copy = keep(empty(shape(tensor), dtype(tensor), this.#device));
        of.set(tensor, copy);
        copyAsync(copy, tensor);
      }
    } catch (failure) {
      awaitCopies(this.#device, "in");
      free(...of.values());
      throw failure;
    }
    return { part, of };
  }

  #dropLoaded(): void {
    const loaded = this.#loaded;
    this.#loaded = null;
    this.#drop(loaded);
  }

  #dropNext(): void {
    const next = this.#next;
    this.#next = null;
    if (next !== null) awaitCopies(this.#device, "in");
    this.#drop(next);
  }

  #drop(copies: Copies | null): void {
    if (copies !== null) free(...copies.of.values());
  }
}

export const host: StoreKind = {
  about: "in main memory, to train on a GPU",
  lies: "memory",
  shared: false,
  needsGpu: true,
  make: (options) => new HostStore(options),
  makePlanned: (options) => new HostStore(options),
};
