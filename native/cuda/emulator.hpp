// The emulated GPU (native/emulated), for tests: with REVMOE_CPU=emulated it runs the kernels of CPU tensors. It is
// opened from the addon's folder.
#pragma once
#include <ATen/ATen.h>

namespace revmoe {

bool emulates();

/** Runs a kernel on it. Throws for faults that a real GPU would have made. */
void launch_emulated(const char* name, const void* args, size_t bytes, int64_t items);

/** The places of tensors; accesses to other addresses are faults. */
void emulator_made(const void* data, size_t bytes);
void emulator_freed(const void* data);

}  // namespace revmoe
