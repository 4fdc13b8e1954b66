// The optimizer's rule and state for every trained parameter of a model, by place and name. Owns the state until
// `free`.
import { assert } from "../errors.js";
import {
  applyRule,
  elementsOf,
  layoutBytes,
  type Optimizer,
  type ParameterFacts,
  type Rule,
  type ScaledUpdate,
  type State,
  type StateLayout,
} from "../optim/optimizer.js";
import { range } from "../optim/tiles.js";
import { openWeight } from "../optim/weights/weight.js";
import type { Architecture } from "../model/architecture.js";
import {
  allRows,
  type HeldRows,
  type Model,
  type PlacedParameter,
  placedWeights,
  type Trains,
} from "../model/model.js";
import type { NamedTensor } from "../checkpoint/run/state.js";
import { fill_, narrow } from "../torch/ops.js";
import { seedFor } from "../torch/random.js";
import { free, scope } from "../torch/scope.js";
import { type Rows, byteSize, device, type DType, dtype, numel, shape, type Tensor } from "../torch/tensor.js";
import { deviceStore } from "../store/device.js";
import { type Change, nameOf, type ParameterStore, type StateStore } from "../store/store.js";
import { parameterFacts } from "./parameter-facts.js";

export interface StateOptions {
  /** Whether a bfloat16 weight has a correction, which makes 24 bits with it, instead of stochastic rounding. */
  weightsCorrection?: boolean;
  /** What is trained and has a state; all by default. */
  trains?: Trains;
  /** Where state lies; the device of the parameters unless said otherwise. */
  store?: ParameterStore;
}

/** A step's update of a parameter. */
export interface ParameterUpdate extends ScaledUpdate {
  /** Seed of the random bits of this part in this step. */
  seed: number;
  /** First expert that the gradient belongs to; nothing if it is the whole parameter's gradient. */
  firstExpert?: number;
  /** The store's way to change what is stored. */
  change: Change;
}

interface Entry {
  /** Its place among all parameters; its random bits follow from it. */
  place: number;
  facts: ParameterFacts;
  rule: Rule;
  state: State;
  /** Which of its rows this rank holds and updates. */
  rows: Rows;
}

export class OptimizerStates {
  /** How many updates of parameters were begun. Two equal counts mean that nothing has changed in between. */
  updates = 0;
  /** By full name on disk (fused names for experts). */
  readonly #entries = new Map<string, Entry>();
  readonly #model: Model;
  readonly #options: StateOptions;
  readonly #store: StateStore;
  readonly #held: HeldRows;

  constructor(
    readonly optimizer: Optimizer,
    model: Model,
    { trains, store = deviceStore(device(Object.values(model.outer)[0])), ...options }: StateOptions = {},
  ) {
    this.#model = model;
    this.#options = options;
    const all = placedWeights(model.architecture);
    this.#held = store.sharing?.rows ?? allRows;
    this.#store = store.allocateState(all.map((placed) => ({ placed, layout: this.#plan(placed).layout })));
    for (const [place, placed] of all.entries())
      if (trains?.(placed.layer, placed.spec.name) ?? true) this.#add(placed, place);
  }

  /**
   * From now on, `trains` says what is trained. States begin at zero again; a correction stays, since it is part of its
   * weight.
   */
  restart(trains: Trains = () => true): void {
    const model = this.#model;
    for (const [place, placed] of placedWeights(model.architecture).entries()) {
      const name = nameOf(placed);
      const before = this.#entries.get(name);
      this.#entries.delete(name);
      if (trains(placed.layer, placed.spec.name)) {
        const { state } = this.#add(placed, place, before?.state);
        for (const [kind, tensor] of Object.entries(state)) if (kind !== "correction") fill_(tensor, 0);
      } else if (before) this.#store.release(before.state);
    }
  }

  #plan(placed: PlacedParameter): { facts: ParameterFacts; rule: Rule; layout: StateLayout } {
    return plan(this.optimizer, this.#model.architecture, placed, dtype(this.#parameter(placed)), this.#options);
  }

  #parameter = ({ layer, spec }: PlacedParameter): Tensor =>
    (layer < 0 ? this.#model.outer : this.#model.blocks[layer])[spec.name];

  #add(placed: PlacedParameter, place: number, state = this.#store.open(placed)): Entry {
    const { facts, rule } = this.#plan(placed);
    const entry = { place, facts, rule, state, rows: this.#held(placed) };
    this.#entries.set(nameOf(placed), entry);
    return entry;
  }

  /**
   * Updates a parameter with its gradient times `gradientScale`; layer -1 means outer parameters. With `firstExpert`,
   * the gradient is that of some experts of a stack, and only these are updated. Where this rank holds some rows only,
   * `whole` and the gradient have only these rows.
   */
  update(
    layer: number,
    name: string,
    whole: Tensor,
    gradient: Tensor,
    { firstExpert, change, seed, ...update }: ParameterUpdate,
  ): void {
    this.updates++;
    const full = (layer < 0 ? "" : this.#model.architecture.layers[layer].prefix) + name;
    const entry = this.#entries.get(full) as Entry;
    const { rows } = entry;
    if (rows.count === 0) return;
    scope(() => {
      const { parameter, state } =
        firstExpert === undefined
          ? { parameter: whole, ...entry }
          : someExperts(entry, whole, firstExpert, shape(gradient)[0]);
      const first = (rows.first + (firstExpert ?? 0)) * (numel(whole) / rows.count);
      change({ parameter, ...state }, ({ parameter: stored, ...here }) => {
        const weight = openWeight(stored, { correction: here.correction, seed: seedFor(seed, entry.place), first });
        applyRule(entry.rule, weight, gradient, here, update);
      });
    });
  }

  /**
   * Every state tensor with its name in a checkpoint ("KIND.PARAMETER"); `part` says where a rank's rows lie in the
   * whole.
   */
  tensors(): (NamedTensor & { of: string })[] {
    return [...this.#entries].flatMap(([name, { state, rule, facts, rows }]) =>
      Object.entries(state).map(([kind, tensor]) => {
        // A correction is as large as its weight.
        const size = rule.layout[kind]?.shape ?? facts.shape;
        const first = (elementsOf(size) * rows.first) / facts.shape[0];
        return {
          ...{ name: `${kind}.${name}`, of: name, tensor },
          ...(rows.count < facts.shape[0] ? { part: { shape: size, first } } : {}),
        };
      }),
    );
  }

  /** Bytes of all state as it is saved: whole, not this rank's rows alone. */
  get savedBytes(): number {
    return [...this.#entries.values()].reduce(
      (total, { rule, facts, state }) =>
        total + layoutBytes(rule.layout) + (state.correction === undefined ? 0 : elementsOf(facts.shape)),
      0,
    );
  }

  get bytes(): number {
    return this.tensors().reduce((total, { tensor }) => total + byteSize(tensor), 0);
  }

  free(): void {
    free(...this.tensors().map(({ tensor }) => tensor));
    this.#entries.clear();
  }
}

/** A stacked parameter and its state cut down to `count` experts from `first` on. */
function someExperts(
  { facts, state }: Entry,
  parameter: Tensor,
  first: number,
  count: number,
): { parameter: Tensor; state: State } {
  const [experts] = facts.shape;
  const cut = (tensor: Tensor): Tensor => {
    const each = numel(tensor) / experts;
    assert(Number.isInteger(each), `experts share state of ${facts.name}`);
    return range(tensor, first * each, count * each);
  };
  return {
    parameter: narrow(parameter, 0, first, count),
    state: Object.fromEntries(Object.entries(state).map(([kind, tensor]) => [kind, cut(tensor)])),
  };
}

/** State bytes of a model that need not exist: exactly what `OptimizerStates` would take. */
export function plannedStateBytes(
  optimizer: Optimizer,
  architecture: Architecture,
  weightsDtype: DType,
  options: StateOptions = {},
): number {
  return placedWeights(architecture).reduce(
    (total, placed) => total + layoutBytes(plan(optimizer, architecture, placed, weightsDtype, options).layout),
    0,
  );
}

/** State of one parameter that need not exist, and whether its rows can be updated independently. */
export const plannedState = (
  optimizer: Optimizer,
  architecture: Architecture,
  placed: PlacedParameter,
  weightsDtype: DType,
  options: StateOptions = {},
): { layout: StateLayout; elementwise: boolean } => {
  if (placed.spec.buffer) return { layout: {}, elementwise: false };
  const { layout, rule } = plan(optimizer, architecture, placed, weightsDtype, options);
  return { layout, elementwise: rule.elementwise === true };
};

/**
 * Every state tensor of a model that need not exist, by its name in a checkpoint; `dtypeOf` gives a weight's stored
 * dtype.
 */
export function plannedStates(
  optimizer: Optimizer,
  architecture: Architecture,
  dtypeOf: (placed: PlacedParameter) => DType,
  options: StateOptions = {},
): Map<string, { shape: readonly number[]; dtype: DType }> {
  return new Map(
    placedWeights(architecture).flatMap((placed) =>
      Object.entries(plan(optimizer, architecture, placed, dtypeOf(placed), options).layout).map(
        ([kind, each]) => [`${kind}.${placed.prefix}${placed.spec.name}`, each] as const,
      ),
    ),
  );
}

function plan(
  optimizer: Optimizer,
  architecture: Architecture,
  placed: PlacedParameter,
  weightsDtype: DType,
  { weightsCorrection = false }: StateOptions,
): { facts: ParameterFacts; rule: Rule; layout: StateLayout } {
  const facts = parameterFacts(architecture, placed);
  const rule = optimizer.rule(facts);
  const corrected = weightsCorrection && weightsDtype === "bfloat16";
  return {
    facts,
    rule,
    layout: corrected ? { ...rule.layout, correction: { shape: facts.shape, dtype: "int8" } } : rule.layout,
  };
}
