// A GPU emulated on a CPU, to try the GPU's form of every kernel (native/kernels/kernel.h) where there is none: a block's 256 threads are
// fibers of one thread, which take turns at barriers and shuffles (block.cpp). Every access to memory is looked at (memory.cpp). What a GPU
// would do wrong in silence is a fault with words. Slow, for tests alone; its own shared object, which the addon opens for
// REVMOE_CPU=emulated and setup/emulate.mjs builds.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace revmoe::emulated {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

using Run = void (*)(const void* args, int64_t items);
/** A kernel enters the list of all. */
struct Listed {
  Listed(const char* name, Run run);
};

/** Of a launch the first fault is kept. */
void fault(const char* what);

/** What memory.cpp is told: of a launch, of each of its blocks, of an item that a thread begins, of a barrier that all threads have reached. */
void launch_begins();
void block_begins();
void item_begins(int64_t item);
void barrier_passed();
void launch_ends();

}  // namespace revmoe::emulated
