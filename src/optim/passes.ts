// How an update goes through its elements: in the addon's single passes (native/update_passes.cpp), which are for a CPU; in a kernel of libtorch's
// that is one for the whole update, where a GPU has it; or in the engine's operators. All are the same arithmetic.
import { hasOp } from "../torch/ops.js";
import { device, type Tensor } from "../torch/tensor.js";
import { isCpu } from "../torch/device.js";

let enabled = true;

export const inOnePass = (tensor: Tensor): boolean => enabled && isCpu(device(tensor));

export const hasFusedAdamw = (tensor: Tensor): boolean => !isCpu(device(tensor)) && hasOp("aten::_fused_adamw_");

/** Runs `fn` as on other devices; for tests. */
export function withoutPasses<Result>(fn: () => Result): Result {
  enabled = false;
  try {
    return fn();
  } finally {
    enabled = true;
  }
}
