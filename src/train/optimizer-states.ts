// The optimiser's state for every trained parameter of a model, by place and name. Owns the state tensors until `free`.
import type { Optimizer, State, Update } from "../optim/optimizer.js";
import { placedParameters, type Model } from "../model/model.js";
import { free } from "../torch/scope.js";
import { byteSize, shape, type Tensor } from "../torch/tensor.js";

export class OptimizerStates {
  /** By full name on disk (fused names for experts). */
  readonly #states = new Map<string, State>();
  readonly #model: Model;

  constructor(
    readonly optimizer: Optimizer,
    model: Model,
    frozen: ReadonlySet<string> = new Set(),
  ) {
    this.#model = model;
    for (const { layer, prefix, spec } of placedParameters(model.architecture, model.config)) {
      if (layer >= 0 && frozen.has(spec.name)) continue;
      const parameter = (layer < 0 ? model.outer : model.blocks[layer])[spec.name];
      this.#states.set(prefix + spec.name, optimizer.init(parameter));
    }
  }

  /** Updates a parameter in place; negative layers are outer parameters. */
  update(layer: number, name: string, parameter: Tensor, gradient: Tensor, update: Omit<Update, "decay">): void {
    const full = (layer < 0 ? "" : this.#model.architecture.blockPrefix(layer)) + name;
    const decay = shape(parameter).length > 1;
    this.optimizer.update(parameter, gradient, this.#states.get(full) as State, { ...update, decay });
  }

  /** Every state tensor with its name in a checkpoint: kind, then the parameter's name. */
  tensors(): { name: string; tensor: Tensor }[] {
    return [...this.#states].flatMap(([name, state]) =>
      Object.entries(state).map(([kind, tensor]) => ({ name: `${kind}.${name}`, tensor })),
    );
  }

  get bytes(): number {
    return this.tensors().reduce((total, { tensor }) => total + byteSize(tensor), 0);
  }

  free(): void {
    free(...this.tensors().map(({ tensor }) => tensor));
    this.#states.clear();
  }
}
