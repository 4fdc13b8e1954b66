// Starts a kernel of native/kernels where its tensors lie: on this CPU's threads, or on libtorch's current stream of a GPU, which has them once
// `loadKernels` was called for it. Returns before a GPU is done.
#pragma once
#include <ATen/ATen.h>

#include <functional>

#include "kernels/kernel.h"

namespace revmoe {

/** Calls `work` with pieces of `items` on all threads of the CPU; on the caller's alone where that is one of several already. */
void share_out(int64_t items, const std::function<void(int64_t first, int64_t end)>& work);

void launch(const kernels::Kernel& kernel, const void* args, size_t bytes, int64_t items, c10::Device device);

/** Does `items` items of the kernel. `args` hold pointers into tensors of `device`. */
template <class Args>
void launch(const kernels::Kernel& kernel, const Args& args, int64_t items, c10::Device device) {
  static_assert(std::is_trivially_copyable_v<Args>);
  launch(kernel, &args, sizeof args, items, device);
}

/** Which form of the kernels runs on this CPU: plain, avx2, avx512; emulated, where the GPU's form is tried on it. */
const char* kernels_of_cpu();

/** The tensor's elements, which must be dense, of this type and on this device. */
void check_dense(const at::Tensor& tensor, at::ScalarType type, c10::Device device);

}  // namespace revmoe
