// The parts of CUDA that kernels use, and REVMOE_KERNEL, which adds a kernel to the emulator's list.
#pragma once
#include <math.h>
#include <string.h>

#include "emulated/emulated.hpp"

struct Index {
  unsigned x;
};
extern Index threadIdx, blockIdx, gridDim;

/** The section marks data that belongs to a block. */
#define __shared__ static __attribute__((section("block_shared")))

void __syncthreads();

namespace revmoe::emulated {
uint64_t exchanged(uint64_t own, unsigned lanes, int mask);
}

template <class T>
T __shfl_xor_sync(unsigned lanes, T own, int mask) {
  uint64_t bits = 0;
  static_assert(sizeof own <= sizeof bits);
  memcpy(&bits, &own, sizeof own);
  bits = revmoe::emulated::exchanged(bits, lanes, mask);
  memcpy(&own, &bits, sizeof own);
  return own;
}

/** Only for whole numbers, whose result is the same in any order. Not checked against other accesses. */
template <class T>
__attribute__((noinline, no_sanitize("thread"))) T atomicMax(T* at, T value) {
  static_assert(T(0.5) == T(0), "atomics of fractions have other bits each time");
  const T before = *at;
  if (value > before) *at = value;
  return before;
}

#include "kernels/kernel.h"

static_assert(revmoe::emulated::kThreads == revmoe::kernels::kThreads);

// Every driver takes 4 KiB of arguments for a launch.
#undef REVMOE_KERNEL
#define REVMOE_KERNEL(name, function, Args)                                                \
  static const emulated::Listed listed_##name(#name, [](const void* args, int64_t items) { \
    static_assert(sizeof(Args) + sizeof items <= 4096, "more than a launch takes");        \
    const Args own = *static_cast<const Args*>(args);                                      \
    for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {                     \
      emulated::item_begins(item);                                                         \
      function(Team(), item, own);                                                         \
    }                                                                                      \
  });
