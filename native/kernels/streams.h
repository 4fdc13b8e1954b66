// Residual streams on an integer grid (src/reversible/streams.ts), each step in one pass. A branch's output y is
// multiplied by a scale and rounded once to the nearest whole number, ties to even: in float32 for int32, in float64
// for int64. Sums and shifts are of whole numbers, so the inverse gives back every bit. An item is a chunk of elements;
// if bits are kept, a chunk of their bytes. Values beyond half of the range are noted in two flags: the largest such
// product, and the largest such element of a stream.
#pragma once
#include "groups.h"

namespace revmoe::kernels {
namespace {

DEVICE uint64_t bits_of(double value) {
#ifdef __CUDACC_RTC__
  return static_cast<uint64_t>(__double_as_longlong(value));
#else
  uint64_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

DEVICE double double_of(uint64_t bits) {
#ifdef __CUDACC_RTC__
  return __longlong_as_double(static_cast<long long>(bits));
#else
  double value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

/**
 * The unsigned type of a stream's width, the float type that is rounded to it, and the limits of a stream and of its
 * products.
 */
template <class Whole>
struct Grid;
template <>
struct Grid<int32_t> {
  using Unsigned = uint32_t;
  using Float = float;
  static constexpr Unsigned kTop = 1u << 31;
  static constexpr Unsigned kLimit = 1u << 30;
  static DEVICE Float nearest(Float x) { return rintf(x); }
  static DEVICE Float of_bits(Unsigned bits) { return float_of(bits); }
};
template <>
struct Grid<int64_t> {
  using Unsigned = uint64_t;
  using Float = double;
  static constexpr Unsigned kTop = static_cast<Unsigned>(1) << 63;
  static constexpr Unsigned kLimit = static_cast<Unsigned>(1) << 62;
  static DEVICE Float nearest(Float x) { return rint(x); }
  static DEVICE Float of_bits(Unsigned bits) { return double_of(bits); }
};
template <class Whole>
using UnsignedOf = typename Grid<Whole>::Unsigned;
template <class Whole>
using FloatOf = typename Grid<Whole>::Float;

/** a + b, which wraps around if it leaves the range; such a case was noted. */
template <class Whole>
DEVICE Whole plus(Whole a, Whole b) {
  return static_cast<Whole>(static_cast<UnsignedOf<Whole>>(a) + static_cast<UnsignedOf<Whole>>(b));
}

/** x, or -x if `flip` is -1 and not 0. */
template <class Whole>
DEVICE Whole flipped(Whole x, Whole flip) {
  return plus<Whole>(x ^ flip, flip & 1);
}

template <class Whole>
DEVICE UnsignedOf<Whole> magnitude_of(Whole x) {
  const UnsignedOf<Whole> all = static_cast<UnsignedOf<Whole>>(x);
  return x < 0 ? 0 - all : all;
}

/**
 * A product on the grid; 0 if it is too large or NaN: then `key` is above all magnitudes, and has the product's bits.
 */
template <class Whole>
DEVICE Whole rounded(FloatOf<Whole> product, UnsignedOf<Whole>* key) {
  using G = Grid<Whole>;
  using Unsigned = UnsignedOf<Whole>;
  const Unsigned bits = bits_of(G::nearest(product));
  const Unsigned size = bits & ~G::kTop;
  // With masks, because for a key that is rarely above 0 compilers make a branch, and then do not vectorise.
  const Unsigned beyond = 0 - static_cast<Unsigned>(size >= bits_of(static_cast<FloatOf<Whole>>(G::kLimit)));
  *key = (size | G::kTop) & beyond;
  return static_cast<Whole>(G::of_bits(bits & ~beyond));
}

template <class T>
DEVICE T larger(T a, T b) {
  return a > b ? a : b;
}

/** flags: of products, of elements. Non-negative floats are ordered like their bits; NaN is above them. */
template <class Whole>
DEVICE void note(const Team& team, UnsignedOf<Whole> key, uint64_t* flags) {
  using G = Grid<Whole>;
  if (key < G::kLimit) return;
  const bool is_product = key > G::kTop;
  const double value = is_product ? static_cast<double>(G::of_bits(key & ~G::kTop)) : static_cast<double>(key);
  team.once([=] { raise_to(flags + (is_product ? 0 : 1), bits_of(value)); });
}

/** Number of elements of a stream that a thread of a GPU takes at a time. */
constexpr int kWholesTogether = 4;

struct StreamAddArgs {
  void* out;
  const void* stream;  // null for zeros; may be `out`
  const void* y;
  uint64_t* flags;
  int64_t elements;
  double scale;
};

template <class Whole, class Y>
DEVICE void stream_add(const Team& team, int64_t chunk, const StreamAddArgs& a) {
  const int64_t first = chunk * kChunkElements;
  Whole* const out = static_cast<Whole*>(a.out) + first;
  const Whole* const stream = a.stream == nullptr ? out : static_cast<const Whole*>(a.stream) + first;
  const Whole kept = a.stream == nullptr ? 0 : -1;
  const Y* const y = static_cast<const Y*>(a.y) + first;
  const FloatOf<Whole> scale = static_cast<FloatOf<Whole>>(a.scale);
  const auto key = team.most_of_each<UnsignedOf<Whole>>(chunk_size(chunk, a.elements), 0, [=](int64_t i) {
    UnsignedOf<Whole> key;
    const Whole step = rounded<Whole>(static_cast<FloatOf<Whole>>(load(y, i)) * scale, &key);
    const Whole next = plus<Whole>(stream[i] & kept, step);
    out[i] = next;
    return larger(key, magnitude_of(next));
  });
  note<Whole>(team, key, a.flags);
}

struct StreamFloatArgs {
  float* x;
  void* stream;
  const void* less;  // subtracted from the stream first; null for none
  int64_t elements;
  double unit;
};

template <class Whole>
DEVICE void stream_float(const Team& team, int64_t chunk, const StreamFloatArgs& a) {
  const int64_t first = chunk * kChunkElements;
  const int64_t count = chunk_size(chunk, a.elements);
  float* const x = a.x + first;
  Whole* const stream = static_cast<Whole*>(a.stream) + first;
  const Whole* const less = static_cast<const Whole*>(a.less) + first;
  const FloatOf<Whole> unit = static_cast<FloatOf<Whole>>(a.unit);
  if (a.less == nullptr) {
    team.each(count, [=](int64_t i) { x[i] = static_cast<float>(static_cast<FloatOf<Whole>>(stream[i]) * unit); });
    return;
  }
  team.each(count, [=](int64_t i) {
    const Whole before = plus<Whole>(stream[i], flipped<Whole>(less[i], -1));
    stream[i] = before;
    x[i] = static_cast<float>(static_cast<FloatOf<Whole>>(before) * unit);
  });
}

}  // namespace

REVMOE_KERNEL(stream_add_int32_float, (stream_add<int32_t, float>), StreamAddArgs)
REVMOE_KERNEL(stream_add_int32_bfloat16, (stream_add<int32_t, bfloat16>), StreamAddArgs)
REVMOE_KERNEL(stream_add_int64_float, (stream_add<int64_t, float>), StreamAddArgs)
REVMOE_KERNEL(stream_add_int64_bfloat16, (stream_add<int64_t, bfloat16>), StreamAddArgs)
REVMOE_KERNEL(stream_float_int32, stream_float<int32_t>, StreamFloatArgs)
REVMOE_KERNEL(stream_float_int64, stream_float<int64_t>, StreamFloatArgs)

}  // namespace revmoe::kernels
