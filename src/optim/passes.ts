// How an update goes through its elements: in the addon's single passes (native/operators/updates.cpp), which are for a CPU; in a kernel of libtorch's
// that is one for the whole update, where a GPU has it; or in the engine's operators. All are the same arithmetic.
import { hasKernels } from "../torch/kernels/kernels.js";
import { device, type Tensor } from "../torch/tensor.js";
import { isCpu } from "../torch/device.js";

export const inOnePass = (tensor: Tensor): boolean => isCpu(device(tensor)) && hasKernels(device(tensor));
