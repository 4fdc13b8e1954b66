// A GPU emulated on a CPU, to test the GPU's form of every kernel (native/kernels/kernel.h) on machines without one: a
// block's 256 threads are fibers of one thread, which take turns at barriers and shuffles (block.cpp). Every memory
// access is checked (memory.cpp). What a GPU would do wrong in silence is a fault with a message. Slow, only for tests;
// setup/emulate.mjs builds it as its own shared object, which the addon opens for REVMOE_CPU=emulated.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace revmoe::emulated {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

using Run = void (*)(const void* args, int64_t items);
/** Adds a kernel to the list. */
struct Listed {
  Listed(const char* name, Run run);
};

/** Only the first fault of a launch is kept. */
void fault(const char* what);

/**
 * What memory.cpp is told: that a launch or a block begins, that a thread begins an item, that all threads have reached
 * a barrier.
 */
void launch_begins();
void block_begins();
void item_begins(int64_t item);
void barrier_passed();
void launch_ends();

}  // namespace revmoe::emulated
