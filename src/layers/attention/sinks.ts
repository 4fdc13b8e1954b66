// Sinks for fused forms of attention, which have none themselves. A form returns the output o and, for each query, the
// logarithm L of its sum of exp(S). With the sink z of a head,
//   L' = log(exp(L) + exp(z)),  o' = o exp(L - L')
// A form's backward pass makes P = exp(S - L) and rowsum(do * o) from its arguments. Given o' and L' instead of o and
// L, it makes the gradients with sinks; dz = -sum over queries of exp(z - L') rowsum(do * o'). S, P: tiled.ts.
import { cast, exp_, logAddExp, mul_, neg, reshape, sub, sumDim, unsqueeze } from "../../torch/ops.js";
import { customFunction, ownInput } from "../../torch/graph.js";
import { scope } from "../../torch/scope.js";
import { type DType, dtype, shape, type Tensor } from "../../torch/tensor.js";

type Inputs = [q: Tensor, k: Tensor, v: Tensor];

/** What a form returns, and what it needs again for its gradient. */
interface Made {
  out: Tensor;
  /** L of each query, [..., H, T]. */
  sums: Tensor;
  rest: Tensor[];
}

/** A fused form, called outside of a graph. */
export interface SinkForm {
  forward(...inputs: Inputs): Made;
  gradient(dOut: Tensor, inputs: Inputs, made: Made): Tensor[];
  /** Views an output as [..., H, T, C], without a copy. */
  headsFirst(out: Tensor): Tensor;
}

const wideLike = (t: Tensor): DType => (dtype(t) === "float64" ? "float64" : "float32");

/** Each head's sink as an input of `withSinks`, [H, 1], for queries like `q`. */
export const sinksFor = (q: Tensor, sinks_H: Tensor): Tensor =>
  scope(() => ownInput(reshape(cast(sinks_H, wideLike(q)), [-1, 1])));

/** The form's output with sinks; it belongs to the caller's scope. */
export function withSinks(inputs: Inputs, sinks_H1: Tensor, { forward, gradient, headsFirst }: SinkForm): Tensor {
  const wide = wideLike(inputs[0]);
  return customFunction(
    [...inputs, sinks_H1],
    () => {
      const { out, sums, rest } = forward(...inputs);
      const all = logAddExp(sums, sinks_H1);
      mul_(headsFirst(out), unsqueeze(exp_(sub(sums, all)), -1));
      return { output: out, saved: [all, ...rest] };
    },
    (dOut, out, [sums, ...rest]) => {
      const dSinks_H1 = scope(() => {
        const inner = sumDim(mul_(cast(headsFirst(out), wide, false, true), headsFirst(dOut)), [-1]);
        const each = mul_(exp_(sub(sinks_H1, sums)), inner);
        return neg(sumDim(each, shape(each).length === 3 ? [0, 2] : [1]));
      });
      return [...gradient(dOut, inputs, { out, sums, rest }), reshape(dSinks_H1, [-1, 1])];
    },
  );
}
