// The emulated GPU (native/emulated), for tests: with REVMOE_CPU=emulated the kernels of a CPU's tensors run on it. Opened from beside the addon.
#pragma once
#include <ATen/ATen.h>

namespace revmoe {

bool emulates();

/** Runs a kernel on it. Throws what a GPU would have done wrong. */
void launch_emulated(const char* name, const void* args, size_t bytes, int64_t items);

/** Where tensors lie, so that other addresses are faults. */
void emulator_made(const void* data, size_t bytes);
void emulator_freed(const void* data);

}  // namespace revmoe
