// Elementwise work on several tensors: a function is called with an element of each, and may change those that are
// Changed or Written. On a GPU a thread takes eight neighbours at a time, in accesses of sixteen bytes, and loads all
// before it stores any; on a CPU it takes one, and the compiler vectorises the loop. No element may be in two of the
// tensors.
#pragma once
#include "numbers.h"

namespace revmoe::kernels {
namespace {

#ifdef REVMOE_GPU
constexpr int kNeighbours = 8;
#else
constexpr int kNeighbours = 1;
#endif

template <class T>
struct alignas(kNeighbours * sizeof(T) < 16 ? kNeighbours * sizeof(T) : 16) Neighbours {
  T of[kNeighbours];
};

template <class T>
DEVICE bool is_aligned(const T* at) {
  return kNeighbours == 1 || reinterpret_cast<uint64_t>(at) % alignof(Neighbours<T>) == 0;
}

/**
 * Neighbours from `at` on: in whole accesses if there are enough and they are aligned; else `count` of them, and zeros.
 */
template <bool kWhole, class T>
DEVICE Neighbours<T> take(const T* at, int64_t count) {
  if constexpr (kNeighbours == 1) return {{*at}};
  if constexpr (kWhole) return *reinterpret_cast<const Neighbours<T>*>(at);
  Neighbours<T> x{};
  for (int each = 0; each < kNeighbours; each++)
    if (each < count) x.of[each] = at[each];
  return x;
}

template <bool kWhole, class T>
DEVICE void put(T* at, int64_t count, const Neighbours<T>& x) {
  if constexpr (kNeighbours == 1) {
    *at = x.of[0];
  } else if constexpr (kWhole) {
    *reinterpret_cast<Neighbours<T>*>(at) = x;
  } else {
    for (int each = 0; each < kNeighbours; each++)
      if (each < count) at[each] = x.of[each];
  }
}

template <class T>
struct Read {
  const T* at;
  DEVICE bool aligned() const { return is_aligned(at); }
  template <bool kWhole>
  DEVICE Neighbours<T> load(int64_t i, int64_t count) const {
    return take<kWhole>(at + i, count);
  }
  template <bool kWhole>
  DEVICE void store(int64_t, int64_t, const Neighbours<T>&) const {}
};

template <class T>
struct Changed {
  T* at;
  DEVICE bool aligned() const { return is_aligned(at); }
  template <bool kWhole>
  DEVICE Neighbours<T> load(int64_t i, int64_t count) const {
    return take<kWhole>(at + i, count);
  }
  template <bool kWhole>
  DEVICE void store(int64_t i, int64_t count, const Neighbours<T>& x) const {
    put<kWhole>(at + i, count, x);
  }
};

/** Not loaded first. */
template <class T>
struct Written : Changed<T> {
  DEVICE explicit Written(T* at) : Changed<T>{at} {}
  template <bool kWhole>
  DEVICE Neighbours<T> load(int64_t, int64_t) const {
    return {};
  }
};

template <bool kWhole, class F, class... Of>
DEVICE void pass(int64_t i, int64_t count, const F& f, Of&... of) {
  [&](auto... x) {
    for (int each = 0; each < kNeighbours; each++)
      if (kWhole || each < count) f(x.of[each]...);
    (of.template store<kWhole>(i, count, x), ...);
  }(of.template load<kWhole>(i, count)...);
}

DEVICE int64_t groups_of(int64_t n) { return (n + kNeighbours - 1) / kNeighbours; }

struct Yes {
  static constexpr bool value = true;
};
struct No {
  static constexpr bool value = false;
};

template <class... Of>
DEVICE bool in_whole(int64_t n, const Of&... of) {
  return kNeighbours == 1 || (n % kNeighbours == 0 && (of.aligned() && ...));
}

/** f(x...) with element i of each tensor, for every i below n. */
template <class Worker, class F, class... Of>
DEVICE void each_of(const Worker& worker, int64_t n, const F& f, Of&&... of) {
  if (in_whole(n, of...)) {
    worker.each(groups_of(n), [&](int64_t i) { pass<true>(i * kNeighbours, kNeighbours, f, of...); });
  } else {
    worker.each(groups_of(n), [&](int64_t i) { pass<false>(i * kNeighbours, n - i * kNeighbours, f, of...); });
  }
}

/** The sum of f(x...). */
template <class Worker, class F, class... Of>
DEVICE double sum_of(const Worker& worker, int64_t n, const F& f, Of&&... of) {
  const auto of_group = [&](auto whole, int64_t group) {
    const int64_t i = group * kNeighbours;
    double own = 0;
    [&](auto... x) {
      for (int each = 0; each < kNeighbours; each++)
        if (whole.value || each < n - i) own += f(x.of[each]...);
    }(of.template load<whole.value>(i, n - i)...);
    return own;
  };
  if (in_whole(n, of...))
    return worker.template sum<double>(groups_of(n), [&](int64_t i) { return of_group(Yes(), i); });
  return worker.template sum<double>(groups_of(n), [&](int64_t i) { return of_group(No(), i); });
}

/** What a worker's threads keep in registers between calls, for at most as many elements as they take at a time. */
template <class T, int64_t kElements>
struct Held {
#ifdef REVMOE_GPU
  static_assert(kElements <= 32 * kNeighbours, "a thread of a warp has its neighbours");
  Neighbours<T> own{};
  DEVICE Neighbours<T>& at(int64_t) { return own; }
#else
  Neighbours<T> of[kElements];
  DEVICE Neighbours<T>& at(int64_t i) { return of[i]; }
#endif
  /** The largest f(x) of n, at least zero. f(0) must be zero, since a GPU's thread has zeros after the last element. */
  template <class Worker, class F>
  DEVICE T most(const Worker& worker, int64_t n, const F& f) {
    return worker.template most<T>(groups_of(n), 0, [&](int64_t group) {
      T own = 0;
      for (const T x : at(group).of) own = f(x) > own ? f(x) : own;
      return own;
    });
  }
  DEVICE bool aligned() const { return true; }
  template <bool kWhole>
  DEVICE Neighbours<T> load(int64_t i, int64_t) {
    return at(i);
  }
  template <bool kWhole>
  DEVICE void store(int64_t i, int64_t, const Neighbours<T>& x) {
    at(i) = x;
  }
};

}  // namespace
}  // namespace revmoe::kernels
