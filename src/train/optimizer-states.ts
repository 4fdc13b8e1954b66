// The optimiser's rule and state for every trained parameter of a model, by place and name. Owns the state until `free`.
import { initState, layoutBytes, type Optimizer, type Rule, type State, type StateLayout, type Update } from "../optim/optimizer.js";
import { openWeight } from "../optim/weight.js";
import type { Architecture, ModelConfig } from "../model/architecture.js";
import { type Model, type PlacedParameter, placedParameters } from "../model/model.js";
import { clone, copy_, mulScalar_ } from "../torch/ops.js";
import { free, scope } from "../torch/scope.js";
import { byteSize, device, type DType, dtype, type Tensor, to } from "../torch/tensor.js";
import { parameterFacts } from "./parameter-facts.js";

export interface StateOptions {
  /** Whether bfloat16 weights have a correction that makes 24 bits of them, instead of stochastic rounding. */
  weightsCorrection?: boolean;
  /** Names of block parameters that are not trained and have no state. */
  frozen?: ReadonlySet<string>;
  /** Makes room for all state, and returns that of a parameter; memory beside the parameters unless said otherwise. */
  room?: (planned: { placed: PlacedParameter; layout: StateLayout }[]) => (placed: PlacedParameter) => State;
  /** Copies weights and state to the device of the gradient, and back, for every update. */
  staged?: boolean;
}

export class OptimizerStates {
  /** By full name on disk (fused names for experts). */
  readonly #entries = new Map<string, { rule: Rule; state: State }>();
  readonly #model: Model;
  readonly #staged: boolean;

  constructor(
    readonly optimizer: Optimizer,
    model: Model,
    { frozen = new Set(), room, staged = false, ...options }: StateOptions = {},
  ) {
    this.#model = model;
    this.#staged = staged;
    const parameterOf = ({ layer, spec }: PlacedParameter): Tensor => (layer < 0 ? model.outer : model.blocks[layer])[spec.name];
    const planned = placedParameters(model.architecture, model.config)
      .filter(({ layer, spec }) => layer < 0 || !frozen.has(spec.name))
      .map((placed) => ({ placed, ...plan(optimizer, model, placed, dtype(parameterOf(placed)), options) }));
    const stateOf = room?.(planned);
    for (const { placed, rule, layout } of planned) {
      const state = stateOf?.(placed) ?? initState(layout, device(parameterOf(placed)));
      this.#entries.set(placed.prefix + placed.spec.name, { rule, state });
    }
  }

  /** Updates a parameter in place with its gradient times `gradientScale`; negative layers are outer parameters. */
  update(layer: number, name: string, parameter: Tensor, gradient: Tensor, update: Update & { gradientScale: number }): void {
    const full = (layer < 0 ? "" : this.#model.architecture.blockPrefix(layer)) + name;
    const { rule, state } = this.#entries.get(full) as { rule: Rule; state: State };
    if (update.gradientScale !== 1) mulScalar_(gradient, update.gradientScale);
    const on = device(gradient);
    if (!this.#staged && device(parameter) === on) {
      rule.update(openWeight(parameter, state.correction), gradient, state, update);
      return;
    }
    scope(() => {
      const bring = (t: Tensor): Tensor => (device(t) === on ? clone(t) : to(t, dtype(t), on));
      const weight = bring(parameter);
      const here = Object.fromEntries(Object.entries(state).map(([kind, tensor]) => [kind, bring(tensor)]));
      rule.update(openWeight(weight, here.correction), gradient, here, update);
      copy_(parameter, weight);
      for (const [kind, tensor] of Object.entries(state)) copy_(tensor, here[kind]);
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
