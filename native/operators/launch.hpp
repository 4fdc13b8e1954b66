// Starts a kernel of native/kernels on the device of its tensors: on this CPU's threads, or on libtorch's current
// stream of a GPU after `loadKernels` was called for it. Returns before a GPU is done.
#pragma once
#include <ATen/ATen.h>

#include <functional>

#include "kernels/kernel.h"

namespace revmoe {

/**
 * Calls `work` with parts of `items` on all threads of the CPU; only on the caller's thread if that is already one of
 * several.
 */
void share_out(int64_t items, const std::function<void(int64_t first, int64_t end)>& work);

void launch(const kernels::Kernel& kernel, const void* args, size_t bytes, int64_t items, c10::Device device);

/** Does `items` items of the kernel. `args` has pointers into tensors of `device`. */
template <class Args>
void launch(const kernels::Kernel& kernel, const Args& args, int64_t items, c10::Device device) {
  static_assert(std::is_trivially_copyable_v<Args>);
  launch(kernel, &args, sizeof args, items, device);
}

/** Which form of the kernels runs on this CPU: plain, avx2, avx512; or emulated, for tests of the GPU's form. */
const char* kernels_of_cpu();

/** Checks that the tensor is dense, has this type and is on this device. */
void check_dense(const at::Tensor& tensor, at::ScalarType type, c10::Device device);

}  // namespace revmoe
