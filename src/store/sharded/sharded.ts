// Weights and optimizer state that ranks share: each has its rows of every parameter (see shares.ts) in a store of its own, in memory or in files, and
// changes these alone. A part is whole on a rank while it is in use, and the next one while it comes. Owns copies of parts and that store; what is
// stored belongs to the model and the optimizer.
import { assert, BadValuesError } from "../../errors.js";
import { rankFolder } from "../../checkpoint/run/marker.js";
import type { WrittenProgress } from "../../checkpoint/run/state.js";
import type { Architecture } from "../../model/architecture.js";
import { type Allocate, placedParameters, type PlacedParameter } from "../../model/model.js";
import type { StateLayout } from "../../optim/optimizer.js";
import { type Rows, shape, type Tensor } from "../../torch/tensor.js";
import { deviceStore } from "../device.js";
import { WorkingCopy } from "../disk/working-copy.js";
import {
  type Change,
  EMBEDDING,
  HEAD,
  type HeldBytes,
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
import type { StoreTimes } from "../times.js";
import { Gathering, type SharedWeight } from "./gathering.js";
import { heldBytes, sharesOf } from "./planned-shares.js";
import type { Shares } from "./shares.js";

type Options = Pick<StoreOptions, "architecture" | "shared">;

export class ShardedStore implements ParameterStore {
  readonly sharing: Sharing;
  readonly #own: ParameterStore;
  readonly #device: string;
  readonly #shared: SharedOptions;
  readonly #architecture: Architecture;
  readonly #placed: ReadonlyMap<string, PlacedParameter>;
  #shares: Shares = new Map();
  #ownStateBytes = 0;
  readonly #weights = new Map<number, SharedWeight[]>();
  readonly #shapes = new Map<Tensor, number[]>();
  #gathering: Gathering | null = null;
  #expertsStay = false;

  /** `own` has what is this rank's, on `device`. */
  constructor({ architecture, shared }: Options, own: ParameterStore, device: string) {
    assert(shared !== undefined, "nobody to share with");
    this.#device = device;
    const { rank: ownRank } = shared.ranks;
    this.#own = own;
    this.#shared = shared;
    this.#architecture = architecture;
    this.#placed = new Map(
      placedParameters(architecture).map((placed) => [`${placed.layer} ${placed.spec.name}`, placed]),
    );
    this.sharing = {
      expertsStay: () => this.#expertsStay,
      rows: (placed, rank = ownRank) => this.#rows(placed)[rank],
      shapeOf: (stored) => this.#shapes.get(stored) ?? shape(stored),
      needed: (part, name, rank) => this.#rows(this.#named(part, name))[rank],
    };
  }

  readonly allocate: Allocate = (planned) => {
    this.#expertsStay = this.#shared.expertsStay?.(planned) ?? false;
    this.#shares = this.#shared.shares ?? sharesOf(planned, this.#shared);
    this.#ownStateBytes = heldBytes(planned, this.#shares, this.#shared)[this.#shared.ranks.rank].stateBytes;
    const room = this.#own.allocate(planned.map((each) => ({ ...each, placed: this.#ownRows(each.placed) })));
    return (placed) => {
      const { spec } = placed;
      const stored = room(this.#ownRows(placed));
      this.#shapes.set(stored, spec.shape);
      const part = partOf(this.#architecture, placed);
      const weight = { name: spec.name, stored, shape: spec.shape, rows: this.#rows(placed) };
      this.#weights.set(part, [...(this.#weights.get(part) ?? []), weight]);
      return stored;
    };
  };

  allocateState(planned: PlannedState[]): StateStore {
    return this.#own.allocateState(
      planned.map(({ placed, layout }) => ({
        placed: this.#ownRows(placed),
        layout: cut(layout, placed, this.sharing.rows(placed)),
      })),
    );
  }

  /** Of optimizer state that is this rank's; known when weights are allocated. */
  get ownStateBytes(): number {
    return this.#ownStateBytes;
  }

  get held(): HeldBytes | null {
    return this.#own.held;
  }

  get hostBytes(): number {
    return this.#own.hostBytes;
  }

  get copiedBytes(): number {
    return this.#own.copiedBytes + (this.#gathering?.bytes ?? 0);
  }

  /** What one rank was cut off with may be a step ahead of another's. */
  openModel(): null {
    return null;
  }

  begin(progress: WrittenProgress): void {
    this.#own.begin(progress);
  }

  /** A rank that has met bad values goes on to the end as well: others still need what it holds. */
  pass<T>(parts: readonly number[], work: () => T, stays: (name: string) => boolean = () => false): T {
    assert(this.#gathering === null, "a pass within a pass");
    const { ranks } = this.#shared;
    const weightsOf = (part: number): readonly SharedWeight[] =>
      this.#weightsOf(part).filter(({ name }) => part < 0 || !stays(name));
    const bring = (part: number): void => this.#own.load(part, () => {});
    const gathering = new Gathering(parts, { weightsOf, bring }, ranks.reads(this.#device), ranks);
    this.#gathering = gathering;
    try {
      const result = work();
      gathering.finish();
      return result;
    } catch (failure) {
      if (failure instanceof BadValuesError) gathering.finish();
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

  backward<T>(updates: boolean, pass: () => T): T {
    return this.#own.backward(updates, pass);
  }

  update<T>(part: number, work: (change: Change) => T): T {
    this.#gathering?.settle(part);
    return this.#own.update(part, work);
  }

  finishStep(progress: WrittenProgress): void {
    this.#own.finishStep(progress);
  }

  undoStep(): boolean {
    return this.#own.undoStep();
  }

  replace(fill: () => WrittenProgress): void {
    this.#own.replace(fill);
  }

  takeTimes(): StoreTimes {
    return this.#own.takeTimes();
  }

  close(finished: boolean): void {
    this.#own.close(finished);
  }

  get #open(): Gathering {
    assert(this.#gathering !== null, "parts are loaded outside of a pass");
    return this.#gathering;
  }

  #rows(placed: PlacedParameter): readonly Rows[] {
    const rows = this.#shares.get(nameOf(placed));
    assert(rows !== undefined, `no share of ${nameOf(placed)}`);
    return rows;
  }

  /** The parameter as this rank has it. */
  #ownRows(placed: PlacedParameter): PlacedParameter {
    const [, ...rest] = placed.spec.shape;
    return { ...placed, spec: { ...placed.spec, shape: [this.sharing.rows(placed).count, ...rest] } };
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

const inMemory = (options: Pick<StoreOptions, "device"> & Options): ParameterStore =>
  new ShardedStore(options, deviceStore(options.device), options.device);

export const sharded: StoreKind = {
  about: "a share on each of several ranks",
  lies: "device",
  shared: true,
  needsGpu: false,
  make: inMemory,
  makePlanned: inMemory,
};

export const shardedDisk: StoreKind = {
  about: "the same, each share in files in output_dir/working-rank-N",
  lies: "files",
  shared: true,
  needsGpu: false,
  make: (options) => {
    const { folder, shared } = options;
    const own = new WorkingCopy({
      ...options,
      folder: rankFolder(folder, shared?.ranks.rank ?? 0),
      stateBytes: () => store.ownStateBytes,
    });
    const store: ShardedStore = new ShardedStore(options, own, "cpu");
    return store;
  },
  // As if all were on the device; plan/placement.ts says where it is.
  makePlanned: inMemory,
};
