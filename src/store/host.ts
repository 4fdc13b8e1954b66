// Parameters and optimizer state in main memory, pinned, while a GPU computes. The part that is entered is on the device while it is in use;
// the one behind it is copied there meanwhile, on the way down with its state; what an update changed goes back while the next part
// computes. Owns slabs of main memory and copies on the device; the tensors in main memory belong to the model and the optimizer.
import { UserError } from "../errors.js";
import { formatBytes } from "../format.js";
import type { Architecture, ModelConfig } from "../model/architecture.js";
import type { Allocate, PlacedParameter } from "../model/model.js";
import { awaitCopies, copyAsync } from "../torch/async-copy.js";
import { synchronize } from "../torch/device.js";
import { clone, copy_, fill_ } from "../torch/ops.js";
import { free, isAlive, keep } from "../torch/scope.js";
import { byteSize, device as deviceOf, dtype, empty, emptyPinned, shape, type Tensor, to } from "../torch/tensor.js";
import { layOut, makeRoom, type Wanted } from "./slabs.js";
import { partOf, partsOf, type Staging, type Tier, type TierTimes } from "./store.js";
import { Walk } from "./walk.js";

/** Copies of a part on the device, by what they are copies of. */
interface Copies {
  part: number;
  of: Map<Tensor, Tensor>;
}

const NO_TIME: TierTimes = { waitMs: 0, updateMs: 0, logMs: 0, syncMs: 0 };

export class HostTier implements Tier {
  readonly name = "host";
  readonly #device: string;
  readonly #partOf: (placed: PlacedParameter) => number;
  readonly #walk: Walk;
  readonly #weights = new Map<number, Tensor[]>();
  readonly #states = new Map<number, Tensor[]>();
  readonly #slabs: Tensor[] = [];
  #here: Copies | null = null;
  #next: Copies | null = null;
  /** Parts that are on their way to main memory since the step began. */
  readonly #sent = new Set<number>();
  /** Whether the parts that are entered will be updated, and need their state. */
  #updates = false;
  #isChanging = false;
  #times = { ...NO_TIME };
  #updateStarted = 0;

  /** Without a GPU, which is for tests, the host is its own device: the same copies, not pinned and not asynchronous. */
  constructor(device: string, architecture: Architecture, config: ModelConfig) {
    this.#device = device;
    this.#partOf = (placed) => partOf(architecture, config, placed);
    this.#walk = new Walk(partsOf(config));
  }

  readonly allocate: Allocate = (planned) => {
    const room = this.#room(
      planned.map(({ placed, dtype }) => ({ name: nameOf(placed), shape: placed.spec.shape, dtype })),
    );
    for (const { placed } of planned) this.#add(this.#weights, placed, [room.get(nameOf(placed)) as Tensor]);
    return (placed) => room.get(nameOf(placed)) as Tensor;
  };

  readonly allocateState: Tier["allocateState"] = (planned) => {
    const wanted = planned.flatMap(({ placed, layout }) =>
      Object.entries(layout).map(([kind, { shape, dtype }]) => ({ name: `${kind}.${nameOf(placed)}`, shape, dtype })),
    );
    const room = this.#room(wanted);
    for (const tensor of room.values()) fill_(tensor, 0);
    const states = new Map(
      planned.map(({ placed, layout }) => {
        const state = Object.fromEntries(
          Object.keys(layout).map((kind) => [kind, room.get(`${kind}.${nameOf(placed)}`) as Tensor]),
        );
        this.#add(this.#states, placed, Object.values(state));
        return [nameOf(placed), state];
      }),
    );
    return (placed) => states.get(nameOf(placed)) as Record<string, Tensor>;
  };

  readonly staging: Staging = {
    take: (stored, on) =>
      this.here(stored) ?? (deviceOf(stored) === on ? clone(stored) : to(stored, dtype(stored), on)),
    give: (stored, changed) => {
      if (this.here(stored) !== changed) return void copy_(stored, changed);
      copyAsync(stored, changed);
      this.#sent.add((this.#here as Copies).part);
    },
  };

  here(stored: Tensor): Tensor | undefined {
    return this.#here?.of.get(stored);
  }

  get deviceBytes(): number {
    const copies = [this.#here, this.#next].flatMap((part) => [...(part?.of.values() ?? [])]);
    return copies.reduce((sum, copy) => sum + byteSize(copy), 0);
  }

  get storedBytes(): number {
    return this.#slabs.reduce((sum, slab) => sum + byteSize(slab), 0);
  }

  begin(): void {}

  abandon(): void {
    this.#dropHere();
    this.#dropNext();
    synchronize(this.#device);
    this.#sent.clear();
  }

  wayBack(updates: boolean): void {
    this.#updates = updates;
    // An update that was cut off has changed the copy, and not what is stored.
    if (this.#isChanging) this.#dropHere();
    this.#isChanging = false;
  }

  enter(part: number): void {
    const started = performance.now();
    const ahead = this.#walk.enter(part);
    if (this.#here?.part !== part) {
      this.#dropHere();
      const isNext = this.#next?.part === part;
      if (!isNext) this.#dropNext();
      this.#here = isNext ? this.#next : this.#bring(part);
      this.#next = null;
      awaitCopies(this.#device, "in");
    }
    if (ahead !== undefined && this.#next?.part !== ahead) {
      this.#dropNext();
      this.#next = this.#bring(ahead);
    }
    this.#times.waitMs += performance.now() - started;
  }

  beginUpdate(part: number): void {
    if (part !== this.#walk.current) this.enter(part);
    this.#isChanging = true;
    this.#updateStarted = performance.now();
  }

  endUpdate(): void {
    // Of experts in groups only what is stored was changed.
    this.#dropHere();
    this.#isChanging = false;
    this.#times.updateMs += performance.now() - this.#updateStarted;
  }

  finishStep(): void {
    const started = performance.now();
    synchronize(this.#device);
    this.#sent.clear();
    this.#times.syncMs += performance.now() - started;
  }

  takeTimes(): TierTimes {
    const times = this.#times;
    this.#times = { ...NO_TIME };
    return times;
  }

  close(): void {
    this.#dropHere();
    this.#dropNext();
    synchronize(this.#device);
    const stored = [this.#weights, this.#states].flatMap((parts) => [...parts.values()].flat());
    free(...stored.filter(isAlive), ...this.#slabs);
    for (const parts of [this.#weights, this.#states]) parts.clear();
    this.#slabs.length = 0;
  }

  #room(wanted: Wanted[]): Map<string, Tensor> {
    const make = this.#device === "cpu" ? empty : emptyPinned;
    try {
      const { slabs, tensors } = makeRoom(wanted, (bytes) => make([bytes], "uint8"));
      this.#slabs.push(...slabs);
      return tensors;
    } catch (failure) {
      const bytes = layOut(wanted).slabs.reduce((sum, each) => sum + each, 0);
      throw new UserError(
        `parameters: host needs ${formatBytes(bytes)} of main memory that stays there (pinned), which the system refused: ` +
          `${(failure as Error).message.split("\n")[0].slice(0, 200)}. Use --parameters disk, an optimizer with less state, or more memory.`,
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

  #dropHere(): void {
    const here = this.#here;
    this.#here = null;
    this.#drop(here);
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

const nameOf = ({ prefix, spec }: PlacedParameter): string => prefix + spec.name;
