// Whether an update goes through the addon's single passes (native/update_passes.cpp), which are for a CPU, or through the engine's operators,
// as on every other device. Both are the same arithmetic.
import { device, type Tensor } from "../torch/tensor.js";

let enabled = true;

export const inOnePass = (tensor: Tensor): boolean => enabled && device(tensor) === "cpu";

/** Runs `fn` as on other devices; for tests. */
export function withoutPasses<Result>(fn: () => Result): Result {
  enabled = false;
  try {
    return fn();
  } finally {
    enabled = true;
  }
}
