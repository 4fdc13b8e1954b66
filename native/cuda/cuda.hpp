// CUDA without its toolkit: NVRTC compiles the kernels, the driver loads and launches them. Both are opened by dlopen
// when they are needed.
#pragma once
#include <ATen/ATen.h>

namespace revmoe {

/**
 * Launches `name` with one argument of these bytes, on libtorch's current stream. Fails if `loadKernels` was not
 * called.
 */
void launch_on_gpu(const char* name, const void* args, size_t bytes, int64_t items, c10::Device device);

}  // namespace revmoe
