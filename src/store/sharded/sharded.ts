// Weights and optimizer state that ranks share: each has its rows of every parameter (see shares.ts) in its memory, and changes these alone. A part is
// whole on a rank while it is in use, and the next one while it comes. Owns copies of parts; what is stored belongs to the model and the optimizer.
import { assert, BadValuesError } from "../../errors.js";
import type { WrittenProgress } from "../../checkpoint/run/state.js";
import type { Architecture } from "../../model/architecture.js";
import { type Allocate, placedParameters, type PlacedParameter } from "../../model/model.js";
import type { StateLayout } from "../../optim/optimizer.js";
import { keep } from "../../torch/scope.js";
import { type Rows, type DType, empty, shape, type Tensor } from "../../torch/tensor.js";
import { statesOn } from "../device.js";
import {
  type Change,
  EMBEDDING,
  HEAD,
  type InUse,
  lookUpStored,
  nameOf,
  type ParameterStore,
  partOf,
  type PlannedState,
  type SharedOptions,
  type Sharing,
  type StateStore,
  type StoreKind,
  type StoreOptions,
} from "../store.js";
import { NO_TIME, type StoreTimes } from "../times.js";
import { Gathering, type SharedWeight } from "./gathering.js";
import { sharesOf } from "./planned-shares.js";
import type { Shares } from "./shares.js";

type Options = Pick<StoreOptions, "device" | "architecture" | "shared">;

export class ShardedStore implements ParameterStore {
  readonly held = null;
  readonly hostBytes = 0;
  readonly sharing: Sharing;
  readonly #device: string;
  readonly #shared: SharedOptions;
  readonly #architecture: Architecture;
  readonly #placed: ReadonlyMap<string, PlacedParameter>;
  #shares: Shares = new Map();
  readonly #weights = new Map<number, SharedWeight[]>();
  readonly #shapes = new Map<Tensor, number[]>();
  #gathering: Gathering | null = null;
  #expertsStay = false;

  constructor({ device, architecture, shared }: Options) {
    assert(shared !== undefined, "nobody to share with");
    const { rank: own } = shared.ranks;
    this.#device = device;
    this.#shared = shared;
    this.#architecture = architecture;
    this.#placed = new Map(
      placedParameters(architecture).map((placed) => [`${placed.layer} ${placed.spec.name}`, placed]),
    );
    this.sharing = {
      expertsStay: () => this.#expertsStay,
      rows: (placed, rank = own) => this.#rows(placed)[rank],
      shapeOf: (stored) => this.#shapes.get(stored) ?? shape(stored),
      needed: (part, name, rank) => this.#rows(this.#named(part, name))[rank],
    };
  }

  readonly allocate: Allocate = (planned) => {
    this.#expertsStay = this.#shared.expertsStay?.(planned) ?? false;
    this.#shares = this.#shared.shares ?? sharesOf(planned, this.#shared);
    const types = new Map(planned.map(({ placed, dtype }) => [nameOf(placed), dtype]));
    return (placed) => {
      const { spec } = placed;
      const [, ...rest] = spec.shape;
      const { count } = this.sharing.rows(placed);
      const stored = keep(empty([count, ...rest], types.get(nameOf(placed)) as DType, this.#device));
      this.#shapes.set(stored, spec.shape);
      const part = partOf(this.#architecture, placed);
      const weight = { name: spec.name, stored, shape: spec.shape, rows: this.#rows(placed) };
      this.#weights.set(part, [...(this.#weights.get(part) ?? []), weight]);
      return stored;
    };
  };

  allocateState(planned: PlannedState[]): StateStore {
    return statesOn(
      this.#device,
      planned.map(({ placed, layout }) => ({ placed, layout: cut(layout, placed, this.sharing.rows(placed)) })),
    );
  }

  get copiedBytes(): number {
    return this.#gathering?.bytes ?? 0;
  }

  openModel(): null {
    return null;
  }

  begin(): void {}

  /** Errors in values are met by all ranks, and each stays until all are at the end: others still need what it holds. */
  pass<T>(parts: readonly number[], work: () => T, stays: (name: string) => boolean = () => false): T {
    assert(this.#gathering === null, "a pass within a pass");
    const { ranks } = this.#shared;
    const gathering = new Gathering(
      parts,
      (part) => this.#weightsOf(part).filter(({ name }) => part < 0 || !stays(name)),
      ranks.reads(),
      ranks,
    );
    this.#gathering = gathering;
    try {
      const result = work();
      gathering.finish();
      return result;
    } catch (failure) {
      if (failure instanceof BadValuesError) ranks.gather(null);
      throw failure;
    } finally {
      this.#gathering = null;
      gathering.close();
    }
  }

  load<T>(part: number, open: (inUse: InUse) => T): T {
    return open(this.#open.load(part));
  }

  lookUp(stored: Tensor, tokens_T: ArrayLike<number>): Tensor {
    return lookUpStored(this.#open.load(EMBEDDING)(stored), tokens_T);
  }

  backward<T>(_updates: boolean, pass: () => T): T {
    return pass();
  }

  update<T>(part: number, work: (change: Change) => T): T {
    this.#gathering?.settle(part);
    return work((stored, change) => change(stored));
  }

  finishStep(): void {}

  undoStep(): boolean {
    return false;
  }

  replace(fill: () => WrittenProgress): void {
    fill();
  }

  takeTimes(): StoreTimes {
    return NO_TIME;
  }

  close(): void {}

  get #open(): Gathering {
    assert(this.#gathering !== null, "parts are loaded outside of a pass");
    return this.#gathering;
  }

  #rows(placed: PlacedParameter): readonly Rows[] {
    const rows = this.#shares.get(nameOf(placed));
    assert(rows !== undefined, `no share of ${nameOf(placed)}`);
    return rows;
  }

  #named(part: number, name: string): PlacedParameter {
    const placed = this.#placed.get(`${Math.max(part, -1)} ${name}`);
    assert(placed !== undefined, `no parameter ${name} in part ${part}`);
    return placed;
  }

  /** A head that is the embedding is of both parts. */
  #weightsOf(part: number): readonly SharedWeight[] {
    const of = (one: number): SharedWeight[] => this.#weights.get(one) ?? [];
    return part === HEAD && this.#architecture.outer.head === null ? [...of(HEAD), ...of(EMBEDDING)] : of(part);
  }
}

/** The state of some rows, which of a part of them is a row of elements. */
function cut(layout: StateLayout, { spec }: PlacedParameter, { count }: Rows): StateLayout {
  const [all] = spec.shape;
  if (count === all) return layout;
  return Object.fromEntries(
    Object.entries(layout).map(([kind, { shape: size, dtype }]) => [
      kind,
      { shape: [(size.reduce((product, each) => product * each, 1) * count) / all], dtype },
    ]),
  );
}

export const sharded: StoreKind = {
  about: "of several ranks, a share on each",
  lies: "ranks",
  needsGpu: false,
  make: (options) => new ShardedStore(options),
  makePlanned: (options) => new ShardedStore(options),
};
