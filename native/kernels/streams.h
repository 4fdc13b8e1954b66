// Residual streams on a grid of whole numbers (src/reversible/streams.ts), each step in one pass. What a branch adds is y times a scale, rounded
// once to the nearest whole number, ties to even: in float32 for int32, in float64 for int64. Sums and shifts are of whole numbers, so
// that the way back has every bit. An item is a chunk of elements; where bits are kept, a chunk of their bytes.
// What leaves half of the range is noted in two flags: the largest such product, and the largest such element of a stream.
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

/** The unsigned numbers of a stream's width, the floats that are rounded to it, and where a stream and its products end. */
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

/** a + b, which comes round where it leaves the range; what does was noted. */
template <class Whole>
DEVICE Whole plus(Whole a, Whole b) {
  return static_cast<Whole>(static_cast<UnsignedOf<Whole>>(a) + static_cast<UnsignedOf<Whole>>(b));
}

/** x, or -x where `flip` is -1 in place of 0. */
template <class Whole>
DEVICE Whole flipped(Whole x, Whole flip) {
  return plus<Whole>(x ^ flip, flip & 1);
}

template <class Whole>
DEVICE UnsignedOf<Whole> magnitude_of(Whole x) {
  const UnsignedOf<Whole> all = static_cast<UnsignedOf<Whole>>(x);
  return x < 0 ? 0 - all : all;
}

/** A product on the grid, 0 where it is too large or no number; then `key` is above all magnitudes, and holds the product's bits. */
template <class Whole>
DEVICE Whole rounded(FloatOf<Whole> product, UnsignedOf<Whole>* key) {
  using G = Grid<Whole>;
  using Unsigned = UnsignedOf<Whole>;
  const Unsigned bits = bits_of(G::nearest(product));
  const Unsigned size = bits & ~G::kTop;
  // By masks: compilers make a branch of a key that is hardly ever more than 0, and then no vectors.
  const Unsigned beyond = 0 - static_cast<Unsigned>(size >= bits_of(static_cast<FloatOf<Whole>>(G::kLimit)));
  *key = (size | G::kTop) & beyond;
  return static_cast<Whole>(G::of_bits(bits & ~beyond));
}

template <class T>
DEVICE T larger(T a, T b) {
  return a > b ? a : b;
}

/** flags: of products, of elements. Numbers that are not negative have the order of their bits; what is no number is above them. */
template <class Whole>
DEVICE void note(const Team& team, UnsignedOf<Whole> key, uint64_t* flags) {
  using G = Grid<Whole>;
  if (key < G::kLimit) return;
  const bool is_product = key > G::kTop;
  const double value = is_product ? static_cast<double>(G::of_bits(key & ~G::kTop)) : static_cast<double>(key);
  team.once([=] { raise_to(flags + (is_product ? 0 : 1), bits_of(value)); });
}

/** What a thread of a GPU takes of a stream at a time. */
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
  const void* less;  // taken from the stream first; null for nothing
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

/** +-1 of the tokens that elements belong to, as a mask: -1 for -1, 0 for 1. Without a division: tokens are counted from an element on. */
struct TokenSigns {
  const float* signs;
  float rest, tokens_per_element;
  DEVICE TokenSigns(const float* of_tokens, int64_t first, int64_t width)
      : signs(of_tokens + first / width),
        rest(static_cast<float>(first % width) + 0.5f),
        tokens_per_element(1.0f / static_cast<float>(width)) {}
  DEVICE int32_t mask(int64_t i) const {
    const float element = rest + static_cast<float>(static_cast<int32_t>(i));
    return static_cast<int32_t>(bits_of(signs[static_cast<int32_t>(element * tokens_per_element)])) >> 31;
  }
};

/** v' = gamma v + (1 - gamma) y and p' = p + v', or back from v' to v, where gamma is +-2^-shift, times a sign of each token where there are any. */
struct MomentumArgs {
  /** What is made; v is changed in place on the way back, which knows no p. */
  void* p_next;
  void* v_next;
  const void* p;
  const void* v;
  const void* y;
  /** The low bits of v that gamma v drops; null where none are kept. Byte i has `slot` bits of the elements i, i + n, i + 2n, ... of n bytes. */
  uint8_t* bits;
  const float* signs;
  uint64_t* flags;
  int64_t elements, width;
  double scale, opposite;  // of y: those of gamma and of -gamma
  int32_t shift, slot;
  int32_t sign;  // of gamma: -1 or 1; 0 where v is left out, which is zero then

  /** Whether a GPU's threads take several elements at a time; the same in all rows, so that a byte is always the same thread's. */
  DEVICE bool even() const {
    return aligned(p_next, v_next, p, v, y, bits) && (bits == nullptr || elements * slot / 8 % 16 == 0);
  }
};

/** Returns the largest key that one of the team has seen. */
template <class Whole, class Y, bool kBack, bool kBits, bool kSigns>
DEVICE UnsignedOf<Whole> momentum_row(const Team& team, int64_t first, int64_t count, int32_t place, uint8_t* bits,
                                      const MomentumArgs& a) {
  using Unsigned = UnsignedOf<Whole>;
  Whole* const p_next = static_cast<Whole*>(a.p_next) + first;
  Whole* const v_next = static_cast<Whole*>(a.v_next) + first;
  const Whole* const p = static_cast<const Whole*>(a.p) + first;
  const Whole* const v = static_cast<const Whole*>(a.v) + first;
  const Y* const y = static_cast<const Y*>(a.y) + first;
  const FloatOf<Whole> scale = static_cast<FloatOf<Whole>>(a.scale);
  const FloatOf<Whole> opposite = static_cast<FloatOf<Whole>>(a.opposite);
  const TokenSigns signs(a.signs, first, a.width);
  const int32_t shift = a.shift;
  const Whole negative = a.sign < 0 ? -1 : 0;
  const Whole kept = a.sign == 0 ? 0 : -1;
  const int32_t mask = (1 << shift) - 1;
  const int32_t others = place == 0 ? 0 : 255;  // the first elements of bytes find nothing in them yet
  Unsigned most = 0;
  each_at<kWholesTogether>(team, count, a.even(), [&](auto at) {
    const auto branch = load(y, at);
    auto next = some_of(v, at), sum = next;
    if (!kBack) sum = some_of(p, at);
    Some<uint8_t, at.kSize> byte{};
    if (kBits) byte = some_of(bits, at);
    at.each([&](int k) {
      const Whole turned = kSigns ? signs.mask(at.first + k) : 0;
      const Whole flip = negative ^ turned;
      Unsigned key;
      const FloatOf<Whole> factor = turned == 0 ? scale : opposite;
      const Whole step = rounded<Whole>(static_cast<FloatOf<Whole>>(branch[k]) * factor, &key);
      if (kBack) {
        const Whole share = flipped<Whole>(plus<Whole>(next[k], flipped<Whole>(step, -1)), flip);
        const Whole low = kBits ? (byte[k] >> place) & mask : 0;
        next[k] = static_cast<Whole>(static_cast<Unsigned>(share) << shift) | low;
      } else {
        if (kBits)
          byte[k] = static_cast<uint8_t>((byte[k] & others) | ((static_cast<int32_t>(next[k]) & mask) << place));
        next[k] = plus<Whole>(step, flipped<Whole>((next[k] >> shift) & kept, flip));
        sum[k] = plus<Whole>(sum[k], next[k]);
        key = larger(key, larger(magnitude_of(next[k]), magnitude_of(sum[k])));
      }
      most = larger(key, most);
    });
    if (kBits && !kBack) put_some(bits, at, byte);
    put_some(v_next, at, next);
    if (!kBack) put_some(p_next, at, sum);
  });
  return most;
}

template <class Whole, class Y, bool kBack, bool kSigns>
DEVICE void momentum_rows(const Team& team, int64_t chunk, const MomentumArgs& a) {
  const int64_t first = chunk * kChunkElements;
  UnsignedOf<Whole> most = 0;
  if (a.bits == nullptr) {
    most = momentum_row<Whole, Y, kBack, false, kSigns>(team, first, chunk_size(chunk, a.elements), 0, nullptr, a);
  } else {
    const int64_t bytes = a.elements * a.slot / 8;
    for (int32_t row = 0; row < 8 / a.slot; row++)
      most = larger(most, momentum_row<Whole, Y, kBack, true, kSigns>(
                              team, row * bytes + first, chunk_size(chunk, bytes), row * a.slot, a.bits + first, a));
  }
  note<Whole>(team, most_of_team(team, most), a.flags);
}

template <class Whole, class Y, bool kBack>
DEVICE void momentum(const Team& team, int64_t chunk, const MomentumArgs& a) {
  if (a.signs == nullptr) return momentum_rows<Whole, Y, kBack, false>(team, chunk, a);
  momentum_rows<Whole, Y, kBack, true>(team, chunk, a);
}

struct MomentumGradientArgs {
  float* dv;
  float* dy;
  const float* dp;
  const float* signs;
  int64_t elements, width;
  float gamma;
};

/** g = dv + dp;  dy = (1 - gamma) g;  dv = gamma g. */
template <bool kSigns>
DEVICE void momentum_gradients(const Team& team, int64_t chunk, const MomentumGradientArgs& a) {
  const int64_t first = chunk * kChunkElements;
  float* const dv = a.dv + first;
  float* const dy = a.dy + first;
  const float* const dp = a.dp + first;
  const float gamma = a.gamma;
  const TokenSigns signs(a.signs, first, a.width);
  team.each(chunk_size(chunk, a.elements), [=](int64_t i) {
    const float own = kSigns && signs.mask(i) != 0 ? -gamma : gamma;
    const float g = dv[i] + dp[i];
    dy[i] = g * (1 - own);
    dv[i] = g * own;
  });
}

DEVICE void momentum_gradient_of(const Team& team, int64_t chunk, const MomentumGradientArgs& a) {
  if (a.signs == nullptr) return momentum_gradients<false>(team, chunk, a);
  momentum_gradients<true>(team, chunk, a);
}

}  // namespace

REVMOE_KERNEL(stream_add_int32_float, (stream_add<int32_t, float>), StreamAddArgs)
REVMOE_KERNEL(stream_add_int32_bfloat16, (stream_add<int32_t, bfloat16>), StreamAddArgs)
REVMOE_KERNEL(stream_add_int64_float, (stream_add<int64_t, float>), StreamAddArgs)
REVMOE_KERNEL(stream_add_int64_bfloat16, (stream_add<int64_t, bfloat16>), StreamAddArgs)
REVMOE_KERNEL(stream_float_int32, stream_float<int32_t>, StreamFloatArgs)
REVMOE_KERNEL(stream_float_int64, stream_float<int64_t>, StreamFloatArgs)
REVMOE_KERNEL(momentum_int32_float, (momentum<int32_t, float, false>), MomentumArgs)
REVMOE_KERNEL(momentum_int32_bfloat16, (momentum<int32_t, bfloat16, false>), MomentumArgs)
REVMOE_KERNEL(momentum_int64_float, (momentum<int64_t, float, false>), MomentumArgs)
REVMOE_KERNEL(momentum_int64_bfloat16, (momentum<int64_t, bfloat16, false>), MomentumArgs)
REVMOE_KERNEL(momentum_back_int32_float, (momentum<int32_t, float, true>), MomentumArgs)
REVMOE_KERNEL(momentum_back_int32_bfloat16, (momentum<int32_t, bfloat16, true>), MomentumArgs)
REVMOE_KERNEL(momentum_back_int64_float, (momentum<int64_t, float, true>), MomentumArgs)
REVMOE_KERNEL(momentum_back_int64_bfloat16, (momentum<int64_t, bfloat16, true>), MomentumArgs)
REVMOE_KERNEL(momentum_gradient, momentum_gradient_of, MomentumGradientArgs)

}  // namespace revmoe::kernels
