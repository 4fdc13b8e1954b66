// The optimiser's rule and state for every trained parameter of a model, by place and name. Owns the state until `free`.
import { assert } from "../errors.js";
import {
  initState,
  layoutBytes,
  type Optimizer,
  type ParameterFacts,
  type Rule,
  type State,
  type StateLayout,
  type Update,
} from "../optim/optimizer.js";
import { range } from "../optim/tiles.js";
import { openWeight } from "../optim/weights/weight.js";
import type { Architecture, ModelConfig } from "../model/architecture.js";
import { type Model, type PlacedParameter, placedParameters, type Trains } from "../model/model.js";
import { copy_, fill_, mulScalar_, narrow } from "../torch/ops.js";
import { free, scope } from "../torch/scope.js";
import { byteSize, device, type DType, dtype, numel, shape, type Tensor, to } from "../torch/tensor.js";
import type { Staging } from "../store/store.js";
import { parameterFacts } from "./parameter-facts.js";

export interface StateOptions {
  /** Whether bfloat16 weights have a correction that makes 24 bits of them, instead of stochastic rounding. */
  weightsCorrection?: boolean;
  /** What is trained and has a state; all by default. */
  trains?: Trains;
  /** Makes room for all state, trained or not yet, and returns that of a parameter; memory beside the parameters unless said otherwise. */
  room?: (planned: { placed: PlacedParameter; layout: StateLayout }[]) => (placed: PlacedParameter) => State;
  /** Brings weights and state to the device of the gradient, and back, for every update. */
  staging?: Staging;
}

/** Parameters of a file that is mapped, or of the CPU, while another device computes. */
const COPIES: Staging = {
  take: (stored, on) => to(stored, dtype(stored), on),
  give: (stored, changed) => void copy_(stored, changed),
};

interface Entry {
  facts: ParameterFacts;
  rule: Rule;
  state: State;
}

export class OptimizerStates {
  /** How many updates of parameters were begun: who compares two counts knows whether anything has changed between. */
  updates = 0;
  /** By full name on disk (fused names for experts). */
  readonly #entries = new Map<string, Entry>();
  readonly #model: Model;
  readonly #options: StateOptions;
  /** State of parameters by full name, where there is room for all of them. */
  readonly #stateOf: ((placed: PlacedParameter) => State) | null;

  constructor(
    readonly optimizer: Optimizer,
    model: Model,
    { trains, ...options }: StateOptions = {},
  ) {
    this.#model = model;
    this.#options = options;
    const all = placedParameters(model.architecture, model.config);
    this.#stateOf = options.room?.(all.map((placed) => ({ placed, layout: this.#plan(placed).layout }))) ?? null;
    for (const placed of all) if (trains?.(placed.layer, placed.spec.name) ?? true) this.#add(placed);
  }

  /**
   * From now on `trains` says what is trained, each with a state as before the first step. What is part of a weight, its correction, stays.
   */
  restart(trains: Trains = () => true): void {
    const model = this.#model;
    for (const placed of placedParameters(model.architecture, model.config)) {
      const { layer, spec, prefix } = placed;
      const name = prefix + spec.name;
      const { correction, ...old } = this.#entries.get(name)?.state ?? {};
      this.#entries.delete(name);
      if (this.#stateOf === null) free(...Object.values(old));
      else
        for (const [kind, tensor] of Object.entries(this.#stateOf(placed))) if (kind !== "correction") fill_(tensor, 0);
      if (trains(layer, spec.name)) this.#add(placed, correction);
      else if (correction !== undefined && this.#stateOf === null) free(correction);
    }
  }

  #plan(placed: PlacedParameter): { facts: ParameterFacts; rule: Rule; layout: StateLayout } {
    return plan(this.optimizer, this.#model, placed, dtype(this.#parameter(placed)), this.#options);
  }

  #parameter = ({ layer, spec }: PlacedParameter): Tensor =>
    (layer < 0 ? this.#model.outer : this.#model.blocks[layer])[spec.name];

  /** State as before the first step, but for a correction that there is already. */
  #add(placed: PlacedParameter, correction?: Tensor): void {
    const { facts, rule, layout } = this.#plan(placed);
    const { correction: _kept, ...rest } = layout;
    const made =
      this.#stateOf?.(placed) ?? initState(correction === undefined ? layout : rest, device(this.#parameter(placed)));
    this.#entries.set(placed.prefix + placed.spec.name, {
      facts,
      rule,
      state: correction === undefined ? made : { ...made, correction },
    });
  }

  /**
   * Updates a parameter in place with its gradient times `gradientScale`; negative layers are outer parameters. With `firstExpert`, the
   * gradient is that of some of a stack of experts, and only these are updated.
   */
  update(
    layer: number,
    name: string,
    whole: Tensor,
    gradient: Tensor,
    { gradientScale, firstExpert, ...update }: Update & { gradientScale: number; firstExpert?: number },
  ): void {
    this.updates++;
    const full = (layer < 0 ? "" : this.#model.architecture.blockPrefix(layer)) + name;
    const entry = this.#entries.get(full) as Entry;
    if (gradientScale !== 1) mulScalar_(gradient, gradientScale);
    const on = device(gradient);
    scope(() => {
      const { parameter, rule, state } =
        firstExpert === undefined
          ? { parameter: whole, ...entry }
          : someExperts(entry, whole, firstExpert, shape(gradient)[0]);
      const { staging = device(parameter) === on ? undefined : COPIES } = this.#options;
      if (staging === undefined) {
        rule.update(openWeight(parameter, state.correction), gradient, state, update);
        return;
      }
      const weight = staging.take(parameter, on);
      const here = Object.fromEntries(Object.entries(state).map(([kind, tensor]) => [kind, staging.take(tensor, on)]));
      rule.update(openWeight(weight, here.correction), gradient, here, update);
      staging.give(parameter, weight);
      for (const [kind, tensor] of Object.entries(state)) staging.give(tensor, here[kind]);
    });
  }

  /** Every state tensor with its name in a checkpoint: kind, then the parameter's name. */
  tensors(): { name: string; tensor: Tensor }[] {
    return [...this.#entries].flatMap(([name, { state }]) =>
      Object.entries(state).map(([kind, tensor]) => ({ name: `${kind}.${name}`, tensor })),
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
  { facts, rule, state }: Entry,
  parameter: Tensor,
  first: number,
  count: number,
): { parameter: Tensor; rule: Rule; state: State } {
  const [experts] = facts.shape;
  const cut = (tensor: Tensor): Tensor => {
    const each = numel(tensor) / experts;
    assert(Number.isInteger(each), `experts share state of ${facts.name}`);
    return range(tensor, first * each, count * each);
  };
  return {
    parameter: narrow(parameter, 0, first, count),
    rule,
    state: Object.fromEntries(Object.entries(state).map(([kind, tensor]) => [kind, cut(tensor)])),
  };
}

/** State bytes of a model that need not exist: what `OptimizerStates` would take, exactly. */
export function plannedStateBytes(
  optimizer: Optimizer,
  model: { architecture: Architecture; config: ModelConfig },
  weightsDtype: DType,
  options: StateOptions = {},
): number {
  return placedParameters(model.architecture, model.config).reduce(
    (total, placed) => total + layoutBytes(plan(optimizer, model, placed, weightsDtype, options).layout),
    0,
  );
}

/** Every state tensor of a model that need not exist, by its name in a checkpoint; `dtypeOf` says how a weight is stored. */
export function plannedStates(
  optimizer: Optimizer,
  model: { architecture: Architecture; config: ModelConfig },
  dtypeOf: (placed: PlacedParameter) => DType,
  options: StateOptions = {},
): Map<string, { shape: readonly number[]; dtype: DType }> {
  return new Map(
    placedParameters(model.architecture, model.config).flatMap((placed) =>
      Object.entries(plan(optimizer, model, placed, dtypeOf(placed), options).layout).map(
        ([kind, each]) => [`${kind}.${placed.prefix}${placed.spec.name}`, each] as const,
      ),
    ),
  );
}

function plan(
  optimizer: Optimizer,
  { architecture, config }: { architecture: Architecture; config: ModelConfig },
  placed: PlacedParameter,
  weightsDtype: DType,
  { weightsCorrection = false }: StateOptions,
): { facts: ParameterFacts; rule: Rule; layout: StateLayout } {
  const facts = parameterFacts(architecture, config, placed);
  const rule = optimizer.rule(facts);
  const corrected = weightsCorrection && weightsDtype === "bfloat16";
  return {
    facts,
    rule,
    layout: corrected ? { ...rule.layout, correction: { shape: facts.shape, dtype: "int8" } } : rule.layout,
  };
}
