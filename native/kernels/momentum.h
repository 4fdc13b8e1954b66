// The momentum coupling (src/reversible/couplings/momentum.ts) on integer streams: v' = gamma v + (1 - gamma) y and p'
// = p + v', the bits that the division drops, the inverse, and the gradients of both directions. An item is a chunk.
#pragma once
#include "streams.h"

namespace revmoe::kernels {
namespace {

/**
 * The sign of each element's token as a mask: -1 for -1, 0 for 1. Without division: tokens are counted from a first
 * element on.
 */
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

/**
 * v' = gamma v + (1 - gamma) y and p' = p + v', or back from v' to v. gamma is +-2^-shift, times a sign for each token
 * if there are signs.
 */
struct MomentumArgs {
  /** Results. The inverse changes v in place and does not use p. */
  void* p_next;
  void* v_next;
  const void* p;
  const void* v;
  const void* y;
  /**
   * The low bits of v that gamma v drops; null if none are kept. Byte i of n bytes has `slot` bits of each of the
   * elements i, i + n, i + 2n, ...
   */
  uint8_t* bits;
  const float* signs;
  uint64_t* flags;
  int64_t elements, width;
  double scale, opposite;  // of y: for gamma and for -gamma
  int32_t shift, slot;
  int32_t sign;  // of gamma: -1 or 1; 0 if v is left out, because it is zero

  /**
   * Whether a GPU's threads take several elements at a time; the same for all rows, so that a byte always belongs to
   * the same thread.
   */
  DEVICE bool even() const {
    return aligned(p_next, v_next, p, v, y, bits) && (bits == nullptr || elements * slot / 8 % 16 == 0);
  }
};

/** Returns the largest key that any thread of the team has seen. */
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
  const int32_t others = place == 0 ? 0 : 255;  // the first elements of bytes find no bits in them yet
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
