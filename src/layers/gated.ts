// A product with a gate: f(gate) x, elementwise, both of the same shape.
import { runOn } from "../torch/kernels/kernels.js";
import { type GateFunction, gatedProduct, mul, sigmoid, silu } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import type { Tensor } from "../torch/tensor.js";

const FUNCTIONS = { silu, sigmoid };

export function gated(name: GateFunction, gate: Tensor, x: Tensor): Tensor {
  if (runOn(x)) return gatedProduct(gate, x, name);
  return scope(() => mul(FUNCTIONS[name](gate), x));
}
