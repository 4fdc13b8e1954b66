// The language of all kernels: one source becomes loops over vectors on a CPU and a CUDA kernel on a GPU. A kernel is a
// device function `f(team, item, args)`: it does one item (a chunk of elements, a row) of the work, with a team: one
// thread with its vectors on a CPU, a block of threads on a GPU. Items are independent and run in any order, so results
// do not depend on the number of threads. Sums have a fixed order. REVMOE_KERNEL(name, f, Args) makes it a kernel with
// a name. This is compiled in three ways: by NVRTC; by native/kernels/cpu.cpp, once for each kind of CPU (REVMOE_CPU is
// its name); by the operators, which only launch. Kernels are named outside of the unnamed namespace with the rest.
// Only these C headers are included: functions compiled for a new CPU must not replace those that others call.
#pragma once

#ifdef __CUDACC_RTC__
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
#define REVMOE_GPU 1
#elif defined(REVMOE_CUDA_EMULATED)
#define REVMOE_GPU 1
#else
#include <math.h>
#include <stdint.h>
#endif

#ifdef __CUDACC_RTC__
#define DEVICE __device__ __forceinline__
#else
#define DEVICE inline __attribute__((always_inline))
#endif

#if !defined(REVMOE_GPU) && !defined(REVMOE_CPU)
namespace revmoe::kernels {

/** A kernel as the operators see it: its name on a GPU, and its function on each kind of CPU. */
struct Kernel {
  using OnCpu = void (*)(const void* args, int64_t first, int64_t end);
  const char* name;
  OnCpu on_cpu[3];
};

}  // namespace revmoe::kernels
#endif

// Internal linkage: each kind of CPU has its own functions.
namespace revmoe::kernels {
namespace {

/**
 * Elements of a chunk, which is an item of an elementwise kernel. A multiple of the 256 that share a scale in 8-bit
 * state.
 */
constexpr int64_t kChunkElements = 4096;

/**
 * Rows of an item of a kernel that splits its team: one for each warp of a GPU; for short rows, one for each 8 threads.
 */
constexpr int64_t kParts = 8;
constexpr int64_t kSmallParts = 32;

DEVICE int64_t chunks_of(int64_t elements) { return (elements + kChunkElements - 1) / kChunkElements; }

/** Number of elements in a chunk; the last one may be shorter. */
DEVICE int64_t chunk_size(int64_t chunk, int64_t elements) {
  const int64_t left = elements - chunk * kChunkElements;
  return left < kChunkElements ? left : kChunkElements;
}

#ifdef REVMOE_GPU

constexpr int kThreads = 32 * kParts;

/** Floats that go through a thread's registers at the same time. */
using Lanes = float;

template <class T>
struct Plus {
  DEVICE T operator()(T a, T b) const { return a + b; }
};
template <class T>
struct Most {
  DEVICE T operator()(T a, T b) const { return a > b ? a : b; }
};

/** Joins the values of kLanes neighbouring lanes of a warp; each of them gets the result. */
template <int kLanes = 32, class T, class Join>
DEVICE T lanes_together(T own, Join join) {
  const unsigned lanes = (0xffffffffu >> (32 - kLanes)) << (threadIdx.x % 32 / kLanes * kLanes);
  for (int mask = kLanes / 2; mask > 0; mask /= 2) own = join(own, __shfl_xor_sync(lanes, own, mask));
  return own;
}

/**
 * Several sums at a time; lane l gets the sum of number l kSums / 32. Lanes exchange the halves that they do not
 * complete.
 */
template <int kSums>
DEVICE double warp_sums(double (&own)[kSums]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int mask = 16;
#pragma unroll
  for (int half = kSums / 2; half > 0; half /= 2, mask /= 2) {
    const bool upper = (lane & mask) != 0;
    for (int i = 0; i < half; i++) {
      const double other = __shfl_xor_sync(0xffffffffu, upper ? own[i] : own[i + half], mask);
      own[i] = (upper ? own[i + half] : own[i]) + other;
    }
  }
  for (; mask > 0; mask /= 2) own[0] += __shfl_xor_sync(0xffffffffu, own[0], mask);
  return own[0];
}

/** A warp of a team, or kLanes neighbouring threads of one. */
template <int kLanes>
struct Part {
  static constexpr int kSize = kLanes;
  template <class F>
  DEVICE void each(int64_t n, F f) const {
    for (int64_t i = threadIdx.x % kLanes; i < n; i += kLanes) f(i);
  }
  template <class F>
  DEVICE void once(F f) const {
    if (threadIdx.x % kLanes == 0) f();
  }
  template <class T, class F>
  DEVICE T sum(int64_t n, F f) const {
    T own = 0;
    for (int64_t i = threadIdx.x % kLanes; i < n; i += kLanes) own += f(i);
    return lanes_together<kLanes>(own, Plus<T>());
  }
  template <class T, class F>
  DEVICE T most(int64_t n, T least, F f) const {
    T own = least;
    for (int64_t i = threadIdx.x % kLanes; i < n; i += kLanes) own = Most<T>()(f(i), own);
    return lanes_together<kLanes>(own, Most<T>());
  }
};

/** A block of kThreads threads. */
struct Team {
  static constexpr int kSize = kThreads;
  /** f(i, part) for every i below n: each by one of the team's kInto parts, whose sums are over that part only. */
  template <int64_t kInto = kParts, class F>
  DEVICE void split(int64_t n, F f) const {
    constexpr int kLanes = kThreads / kInto;
    for (int64_t i = threadIdx.x / kLanes; i < n; i += kInto) f(i, Part<kLanes>());
  }
  /** f(i) for every i below n, in any order. */
  template <class F>
  DEVICE void each(int64_t n, F f) const {
    for (int64_t i = threadIdx.x; i < n; i += kThreads) f(i);
  }
  /** f(zero, i) for the elements from i on, as many as zero has: Lanes if so many are left, else one float. */
  template <class F>
  DEVICE void each_lanes(int64_t n, F f) const {
    each(n, [&](int64_t i) { f(Lanes(0), i); });
  }
  /** f() once. */
  template <class F>
  DEVICE void once(F f) const {
    if (threadIdx.x == 0) f();
  }
  /** After this, all threads of the team see what any of them wrote. */
  DEVICE void sync() const { __syncthreads(); }

  /** Sum of f(i) over i below n, for all threads of the team; always in the same order. */
  template <class T, class F>
  DEVICE T sum(int64_t n, F f) const {
    T own = 0;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) own += f(i);
    return together(own, Plus<T>());
  }
  /** Largest f(i); `least` if there is none. NaN if one comes first. */
  template <class T, class F>
  DEVICE T most(int64_t n, T least, F f) const {
    T own = least;
    for (int64_t i = threadIdx.x; i < n; i += kThreads) own = Most<T>()(f(i), own);
    return together(own, Most<T>());
  }
  /** The same for whole numbers; f(i) may also write what belongs to element i. */
  template <class T, class F>
  DEVICE T most_of_each(int64_t n, T least, F f) const {
    return most<T>(n, least, f);
  }

 private:
  template <class T, class Join>
  DEVICE T together(T own, Join join) const {
    __shared__ T of_warp[kThreads / 32];
    own = lanes_together(own, join);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = own;
    __syncthreads();
    T all = of_warp[0];
    for (int warp = 1; warp < kThreads / 32; warp++) all = join(all, of_warp[warp]);
    __syncthreads();
    return all;
  }
};

DEVICE void raise_to(uint64_t* most, uint64_t value) {
  atomicMax(reinterpret_cast<unsigned long long*>(most), static_cast<unsigned long long>(value));
}

#define REVMOE_KERNEL(name, function, Args)                                                        \
  extern "C" __global__ void __launch_bounds__(kThreads) name(Args args, int64_t items) {          \
    for (int64_t item = blockIdx.x; item < items; item += gridDim.x) function(Team(), item, args); \
  }

#else

/** Floats that go through a thread's registers at the same time: a cache line of them. */
using Lanes __attribute__((vector_size(64))) = float;

/** One thread; the compiler vectorises its loops. */
struct Team {
  template <int64_t kInto = kParts, class F>
  DEVICE void split(int64_t n, F f) const {
    for (int64_t i = 0; i < n; i++) f(i, *this);
  }
  template <class F>
  DEVICE void each(int64_t n, F f) const {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) f(i);
  }
  template <class F>
  DEVICE void each_lanes(int64_t n, F f) const {
    constexpr int64_t kLanes = sizeof(Lanes) / sizeof(float);
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) f(Lanes{}, i);
    for (; i < n; i++) f(0.0f, i);
  }
  template <class F>
  DEVICE void once(F f) const {
    f();
  }
  DEVICE void sync() const {}

  /** f(i) may also write what belongs to element i. */
  template <class T, class F>
  DEVICE T sum(int64_t n, F f) const {
    constexpr int kLanes = 128 / sizeof(T);
    T lanes[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
#pragma GCC ivdep
#pragma GCC unroll 1
      for (int lane = 0; lane < kLanes; lane++) lanes[lane] += f(i + lane);
    }
    T sum = 0;
    for (; i < n; i++) sum += f(i);
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
    }
    return sum + lanes[0];
  }
  template <class T, class F>
  DEVICE T most(int64_t n, T least, F f) const {
    constexpr int kLanes = 128 / sizeof(T);
    T lanes[kLanes];
    for (int lane = 0; lane < kLanes; lane++) lanes[lane] = least;
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
#pragma GCC unroll 1
      for (int lane = 0; lane < kLanes; lane++) {
        const T x = f(i + lane);
        lanes[lane] = x > lanes[lane] ? x : lanes[lane];
      }
    }
    T all = least;
    for (; i < n; i++) {
      const T x = f(i);
      all = x > all ? x : all;
    }
    for (int lane = 0; lane < kLanes; lane++) all = lanes[lane] > all ? lanes[lane] : all;
    return all;
  }
  template <class T, class F>
  DEVICE T most_of_each(int64_t n, T least, F f) const {
    T all = least;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) {
      const T x = f(i);
      all = x > all ? x : all;
    }
    return all;
  }
};

/** *most = max(*most, value); items may do this at the same time, in any order. */
DEVICE void raise_to(uint64_t* most, uint64_t value) {
  uint64_t before = __atomic_load_n(most, __ATOMIC_RELAXED);
  while (value > before &&
         !__atomic_compare_exchange_n(most, &before, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

#ifdef REVMOE_CPU
#define REVMOE_JOIN_(name, cpu) name##_##cpu
#define REVMOE_JOIN(name, cpu) REVMOE_JOIN_(name, cpu)
#define REVMOE_KERNEL(name, function, Args)                                                                        \
  extern "C" __attribute__((flatten)) void REVMOE_JOIN(revmoe_##name, REVMOE_CPU)(const void* args, int64_t first, \
                                                                                  int64_t end) {                   \
    const Args own = *static_cast<const Args*>(args);                                                              \
    for (int64_t item = first; item < end; item++) function(Team(), item, own);                                    \
  }
#else
#ifdef __x86_64__
#define REVMOE_ON_CPU(name) \
  { revmoe_##name##_plain, revmoe_##name##_avx2, revmoe_##name##_avx512 }
#else
#define REVMOE_ON_CPU(name) \
  { revmoe_##name##_plain, revmoe_##name##_plain, revmoe_##name##_plain }
#endif
#define REVMOE_KERNEL(name, function, Args)                                             \
  extern "C" void revmoe_##name##_plain(const void* args, int64_t first, int64_t end);  \
  extern "C" void revmoe_##name##_avx2(const void* args, int64_t first, int64_t end);   \
  extern "C" void revmoe_##name##_avx512(const void* args, int64_t first, int64_t end); \
  [[maybe_unused]] constexpr Kernel name{#name, REVMOE_ON_CPU(name)};
#endif

#endif

}  // namespace
}  // namespace revmoe::kernels
