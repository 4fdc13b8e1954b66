// A block's parameters in compute form: leaves in the compute dtype (float32 for wide ones). Experts keep their stored
// dtype and are cast one at a time in their product, so a block's experts never exist in compute form. Each expert is a
// leaf whose gradient goes straight into its slice of the block's buffer, so no gradient ever exists twice.
import { detach, leaf, setGrad } from "../torch/autograd.js";
import { fill_, linear, unbind } from "../torch/ops.js";
import { free, keep, scope } from "../torch/scope.js";
import { type DType, device, dtype, empty, full, readBytes, shape, type Tensor, to, zeros } from "../torch/tensor.js";
import type { ParameterSpec, Weights } from "./architecture.js";
import { EXPERT_PARAMETERS, type ExpertRows, type ExpertsElsewhere } from "./expert-rows.js";
import type { Parameters } from "./model.js";

/**
 * Makes one float32 tensor per parameter, where the parameters are or on device `on`. It is zero, or holds anything if
 * `isUnfilled`, as its first gradient is written over that. `shapeOf` gives the whole shape where a parameter is a
 * part. The caller owns and frees them.
 */
export function makeGradients(
  parameters: Parameters,
  on?: string,
  isUnfilled: (name: string) => boolean = () => false,
  shapeOf: (parameter: Tensor) => number[] = shape,
): Parameters {
  return scope(() => {
    const made = Object.entries(parameters).map(([name, parameter]) => {
      const make = isUnfilled(name) ? empty : zeros;
      return [name, make(shapeOf(parameter), "float32", on ?? device(parameter))] as const;
    });
    return Object.fromEntries(made.map(([name, gradient]) => [name, keep(gradient)]));
  });
}

export class OpenWeights implements Weights {
  readonly #tensors = new Map<string, Tensor | Tensor[]>();
  expertRows: ExpertRows | null = null;
  readonly written: Tensor | null;
  #gradients: Parameters = {};

  /**
   * Makes leaves of the trained parameters. Copies in another dtype or on another device (`on`) live until `close`.
   * `read` is called for one parameter at a time; what it makes belongs to a scope here.
   */
  constructor(
    read: (name: string) => Tensor,
    specs: ParameterSpec[],
    computeDtype: DType,
    trains: (name: string) => boolean = () => true,
    on?: string,
    readonly elsewhere: ExpertsElsewhere | null = null,
  ) {
    const isRouted = specs.some(({ experts }) => experts);
    this.written = isRouted ? keep(full([EXPERT_PARAMETERS.length], 1, "uint8")) : null;
    try {
      for (const spec of specs) this.#open(spec, read, computeDtype, trains, on);
    } catch (failure) {
      // Nobody else would free what was opened before.
      this.close();
      throw failure;
    }
  }

  #open(
    { name, experts, buffer, wide }: ParameterSpec,
    read: (name: string) => Tensor,
    computeDtype: DType,
    trains: (name: string) => boolean,
    on: string | undefined,
  ): void {
    // Autograd makes no gradient for a tensor that is not a leaf.
    const isLeaf = trains(name) && !buffer;
    const open = (value: Tensor): Tensor => (isLeaf ? leaf(value) : detach(value));
    const made = scope(() => {
      const stored = read(name);
      const used = wide && computeDtype !== "float64" ? "float32" : computeDtype;
      const value = to(stored, experts || buffer ? dtype(stored) : used, on ?? device(stored));
      return experts ? unbind(value, 0).map(open) : open(value);
    });
    this.#tensors.set(name, made);
    for (const tensor of [made].flat()) keep(tensor);
  }

  get(name: string): Tensor {
    return this.#tensors.get(name) as Tensor;
  }

  experts(name: string): Tensor[] {
    return this.#tensors.get(name) as Tensor[];
  }

  linear(name: string, x_TD: Tensor): Tensor {
    return linear(x_TD, this.get(`${name}.weight`), (this.#tensors.get(`${name}.bias`) as Tensor | undefined) ?? null);
  }

  /**
   * From now on, backward adds each parameter's gradient to its tensor in `gradients`. What is not trained has none
   * there, nor have experts whose `rows` are kept. If experts' tensors are `unfilled`, first gradients are written over
   * what they hold; then call `finishGradients` after the last one.
   */
  collectInto(gradients: Parameters, rows: ExpertRows | null = null, unfilled = false): void {
    this.expertRows = rows;
    this.#gradients = gradients;
    if (this.written !== null) fill_(this.written, unfilled ? 0 : 1);
    scope(() => {
      for (const [name, tensor] of this.#tensors) {
        if (!(name in gradients)) continue;
        if (Array.isArray(tensor)) {
          for (const [expert, slice] of unbind(gradients[name], 0).entries()) setGrad(tensor[expert], slice);
        } else {
          setGrad(tensor, gradients[name]);
        }
      }
    });
  }

  /** Fills with zeros the gradients that nothing was written to. */
  finishGradients(): void {
    if (this.written === null) return;
    const bytes = new Uint8Array(EXPERT_PARAMETERS.length);
    readBytes(this.written, 0, bytes);
    for (const [i, name] of EXPERT_PARAMETERS.entries())
      if (name in this.#gradients && bytes[i] === 0) fill_(this.#gradients[name], 0);
  }

  close(): void {
    for (const tensor of this.#tensors.values()) free(...[tensor].flat());
    if (this.written !== null) free(this.written);
    this.#tensors.clear();
  }
}
