// Neighbouring elements that a thread of a GPU takes at a time, to read 16 bytes of memory and not 2; on a CPU, whose
// compiler vectorises, it is one element. The source is the same: f(at) loads `Some` of a row, goes through them by
// at.each, and stores them. All loads come before the first store, because a compiler does not know whether a store
// changes what is loaded later.
#pragma once
#include "numbers.h"

namespace revmoe::kernels {
namespace {

/** kCount elements of a row, from `first` on. */
template <int kCount>
struct At {
  static constexpr int kSize = kCount;
  int64_t first;
  template <class F>
  DEVICE static void each(F f) {
#ifdef __CUDACC_RTC__
#pragma unroll
#endif
    for (int k = 0; k < kCount; k++) f(k);
  }
};

/** Values of kCount elements, which are read and written at once. */
template <class T, int kCount>
struct alignas(kCount * sizeof(T) < 16 ? kCount * sizeof(T) : 16) Some {
  T of[kCount];
  DEVICE T& operator[](int k) { return of[k]; }
  DEVICE const T& operator[](int k) const { return of[k]; }
};

/** The elements in their own type. */
template <class T, int kCount>
DEVICE Some<T, kCount> some_of(const T* x, At<kCount> at) {
  if constexpr (kCount == 1) return {x[at.first]};
  return *reinterpret_cast<const Some<T, kCount>*>(x + at.first);
}
template <class T, int kCount>
DEVICE void put_some(T* x, At<kCount> at, const Some<T, kCount>& values) {
  if constexpr (kCount == 1) {
    x[at.first] = values[0];
  } else {
    *reinterpret_cast<Some<T, kCount>*>(x + at.first) = values;
  }
}

/** The elements as float32. */
template <class T, int kCount>
DEVICE Some<float, kCount> load(const T* x, At<kCount> at) {
  const Some<T, kCount> values = some_of(x, at);
  Some<float, kCount> floats;
  at.each([&](int k) { floats[k] = load(values.of, k); });
  return floats;
}

/** Two bfloat16 as a word, the first in its lower half. */
DEVICE uint32_t nearest_bfloat16s(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
#else
  return nearest_bfloat16(first) | static_cast<uint32_t>(nearest_bfloat16(second)) << 16;
#endif
}

template <int kCount>
DEVICE void store(float* x, At<kCount> at, const Some<float, kCount>& values) {
  put_some(x, at, values);
}
template <int kCount>
DEVICE void store(bfloat16* x, At<kCount> at, const Some<float, kCount>& values) {
  if constexpr (kCount == 1) {
    store(x, at.first, values[0]);
  } else {
    Some<bfloat16, kCount> narrow;
    At<kCount / 2>::each([&](int k) {
      const uint32_t both = nearest_bfloat16s(values[2 * k], values[2 * k + 1]);
      narrow[2 * k].bits = static_cast<uint16_t>(both);
      narrow[2 * k + 1].bits = static_cast<uint16_t>(both >> 16);
    });
    put_some(x, at, narrow);
  }
}

/** Whether all pointers are multiples of 16 bytes. */
template <class... Of>
DEVICE bool aligned(const Of*... pointers) {
  return ((reinterpret_cast<uint64_t>(pointers) | ...) & 15) == 0;
}

/** Number of elements that a thread of a GPU takes at a time. */
constexpr int kTogether = 8;

/**
 * f(at) for n elements: several at a time if their rows are `even`, that is, begin at multiples of 16 bytes; the rest
 * one by one.
 */
template <int kCount, class Worker, class F>
DEVICE void each_at(const Worker& worker, int64_t n, bool even, F f) {
#ifdef REVMOE_GPU
  const int64_t whole = even ? n / kCount : 0;
#pragma unroll 1
  for (int64_t i = threadIdx.x % Worker::kSize; i < whole; i += Worker::kSize) f(At<kCount>{i * kCount});
#pragma unroll 1
  for (int64_t i = whole * kCount + threadIdx.x % Worker::kSize; i < n; i += Worker::kSize) f(At<1>{i});
#else
  worker.each(n, [&](int64_t i) { f(At<1>{i}); });
#endif
}

/** The sum of f(at) in the same way. */
template <int kCount, class T, class Worker, class F>
DEVICE T sum_at(const Worker& worker, int64_t n, bool even, F f) {
#ifdef REVMOE_GPU
  T own = 0;
  each_at<kCount>(worker, n, even, [&](auto at) { own += f(at); });
  return worker.template sum<T>(Worker::kSize, [=](int64_t) { return own; });
#else
  return worker.template sum<T>(n, [&](int64_t i) { return f(At<1>{i}); });
#endif
}

/** The largest number that any thread of the team has. */
template <class T>
DEVICE T most_of_team(const Team& team, T own) {
#ifdef REVMOE_GPU
  return team.most<T>(kThreads, own, [=](int64_t) { return own; });
#else
  return own;
#endif
}

}  // namespace
}  // namespace revmoe::kernels
