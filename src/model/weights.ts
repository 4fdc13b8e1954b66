// A block's parameters brought into compute form: leaves in the compute dtype (float32 for wide ones), but for experts, whose product casts one at a time, so
// that a block of them in compute form never exists. Each expert is a leaf of its own whose gradient goes straight into its slice
// of the block's buffer, so no gradient ever exists twice.
import { detach, leaf, setGrad } from "../torch/autograd.js";
import { fill_, linear, unbind } from "../torch/ops.js";
import { free, keep, scope } from "../torch/scope.js";
import { type DType, device, dtype, empty, full, readBytes, shape, type Tensor, to, zeros } from "../torch/tensor.js";
import type { ParameterSpec, Weights } from "./architecture.js";
import { EXPERT_PARAMETERS, type ExpertRows, type ExpertsElsewhere } from "./expert-rows.js";
import type { Parameters } from "./model.js";

/**
 * One float32 tensor per parameter, where the parameters are or on a device: zero at first, but for those that hold anything until their first
 * gradient is written (`isUnfilled`). `shapeOf` where a parameter is a part of one. The caller owns and frees them.
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
   * Makes leaves of the parameters that are trained; the copies it needs when compute dtype or device (`on`) differ live until
   * `close`. What `read` makes for it, one parameter at a time, belongs to a scope.
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
      // What was opened before belongs to nobody else.
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
    // Autograd makes no gradient of a weight that is no leaf.
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
   * From now on, backward adds each parameter's gradient to its tensor in `gradients`, which has none for what is not trained, and none
   * for experts where their rows are kept. Where those of experts are `unfilled`, the first are written over what they hold, and
   * `finishGradients` has to be called behind the last.
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

  /** Zeros in place of gradients that nothing was written to. */
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
