// The optimiser's rule and state for every trained parameter of a model, by place and name. Owns the state until `free`.
import { initState, layoutBytes, type Optimizer, type Rule, type State, type StateLayout, type Update } from "../optim/optimizer.js";
import { openWeight } from "../optim/weight.js";
import type { Architecture, ModelConfig } from "../model/architecture.js";
import { type Model, type PlacedParameter, placedParameters, type Trains } from "../model/model.js";
import { mulScalar_ } from "../torch/ops.js";
import { free } from "../torch/scope.js";
import { byteSize, device, type DType, dtype, type Tensor } from "../torch/tensor.js";
import { parameterFacts } from "./parameter-facts.js";

export interface StateOptions {
  /** Whether bfloat16 weights have a correction that makes 24 bits of them, instead of stochastic rounding. */
  weightsCorrection?: boolean;
  /** What is trained and has a state; all by default. */
  trains?: Trains;
}

export class OptimizerStates {
  /** By full name on disk (fused names for experts). */
  readonly #entries = new Map<string, { rule: Rule; state: State }>();
  readonly #model: Model;
  readonly #options: StateOptions;

  constructor(
    readonly optimizer: Optimizer,
    model: Model,
    { trains, ...options }: StateOptions = {},
  ) {
    this.#model = model;
    this.#options = options;
    this.restart(trains);
  }

  /**
   * From now on `trains` says what is trained, each with a state as before the first step. What is part of a weight, its correction, stays.
   */
  restart(trains: Trains = () => true): void {
    const model = this.#model;
    for (const placed of placedParameters(model.architecture, model.config)) {
      const { layer, spec, prefix } = placed;
      const parameter = (layer < 0 ? model.outer : model.blocks[layer])[spec.name];
      const { correction, ...old } = this.#entries.get(prefix + spec.name)?.state ?? {};
      free(...Object.values(old));
      if (trains(layer, spec.name)) {
        const { rule, layout } = plan(this.optimizer, model, placed, dtype(parameter), this.#options);
        const { correction: planned, ...rest } = layout;
        const state = initState(correction === undefined ? layout : rest, device(parameter));
        this.#entries.set(prefix + spec.name, { rule, state: correction === undefined ? state : { ...state, correction } });
      } else {
        if (correction !== undefined) free(correction);
        this.#entries.delete(prefix + spec.name);
      }
    }
  }

  /** Updates a parameter in place with its gradient times `gradientScale`; negative layers are outer parameters. */
  update(layer: number, name: string, parameter: Tensor, gradient: Tensor, update: Update & { gradientScale: number }): void {
    const full = (layer < 0 ? "" : this.#model.architecture.blockPrefix(layer)) + name;
    const { rule, state } = this.#entries.get(full) as { rule: Rule; state: State };
    if (update.gradientScale !== 1) mulScalar_(gradient, update.gradientScale);
    rule.update(openWeight(parameter, state.correction), gradient, state, update);
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

function plan(
  optimizer: Optimizer,
  { architecture, config }: { architecture: Architecture; config: ModelConfig },
  placed: PlacedParameter,
  weightsDtype: DType,
  { weightsCorrection = false }: StateOptions,
): { rule: Rule; layout: StateLayout } {
  const facts = parameterFacts(architecture, config, placed);
  const rule = optimizer.rule(facts);
  const corrected = weightsCorrection && weightsDtype === "bfloat16";
  return { rule, layout: corrected ? { ...rule.layout, correction: { shape: facts.shape, dtype: "int8" } } : rule.layout };
}
