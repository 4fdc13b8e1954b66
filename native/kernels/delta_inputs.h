// From the projections to the inputs of the gated delta rule, and backward: a causal convolution of a few taps over
// each channel, silu, queries and keys of unit length, rates and decays. An item is a token of a key head, with the
// values that share it.
#pragma once
#include "delta.h"

namespace revmoe::kernels {
namespace {

constexpr float kDeltaUnitEpsilon = 1e-6f;

/** y = the convolution at a token, for a part of a head. */
template <class Row>
DEVICE void delta_convolve(const Team& team, const DeltaArgs& a, DeltaPart part, int64_t token, int64_t key, float* y) {
  const DeltaSizes& s = a.sizes;
  const int64_t width = delta_width(s, part), channel = delta_channel(s, part, key);
  if (token >= s.taps - 1) {
    const float* const taps = a.taps + channel;
    const Row* const first = delta_row<const Row>(a.rows, part, token - (s.taps - 1), key);
    const int64_t count = s.taps, next = s.channels(), step = a.rows.row_step[part];
    team.each_lanes(width, [=](auto none, int64_t i) {
      using L = decltype(none);
      L sum = none;
      for (int64_t tap = 0; tap < count; tap++)
        sum += lanes_of<L>(taps + tap * next + i) * lanes_of<L>(first + tap * step + i);
      store_lanes(y, i, sum);
    });
    return;
  }
  // Some of the rows lie before the tile.
  for (int64_t tap = 0; tap < s.taps; tap++) {
    const int64_t at = token - (s.taps - 1) + tap;
    const float* const w = a.taps + tap * s.channels() + channel;
    const float* const early = a.before + (at + s.taps - 1) * s.channels() + channel;
    const Row* const x = delta_row<const Row>(a.rows, part, at, key);
    if (at < 0 && tap == 0) {
      team.each(width, [=](int64_t i) { y[i] = w[i] * early[i]; });
    } else if (at < 0) {
      team.each(width, [=](int64_t i) { y[i] += w[i] * early[i]; });
    } else if (tap == 0) {
      team.each(width, [=](int64_t i) { y[i] = w[i] * load(x, i); });
    } else {
      team.each(width, [=](int64_t i) { y[i] += w[i] * load(x, i); });
    }
  }
}

template <class Row>
DEVICE void delta_inputs(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const DeltaItem at(s, item, s.size);
  const int64_t token = at.chunk * s.chunk + at.rest, width = s.key_width;
  for (int part = kQuery; part <= kKey; part++) {
    const int64_t row = part * s.size + at.rest;
    float* const y = a.work.qk + (at.of_key(s) * 2 * s.chunk + row) * width;
    delta_convolve<Row>(team, a, static_cast<DeltaPart>(part), token, at.key, y);
    team.each(width, [=](int64_t i) { y[i] = silu(y[i]); });
    const float square = team.sum<float>(width, [=](int64_t i) { return y[i] * y[i]; });
    const float unit = 1.0f / square_root(square + kDeltaUnitEpsilon);
    const float scale = part == kQuery ? unit / square_root(static_cast<float>(width)) : unit;
    team.each(width, [=](int64_t i) { y[i] *= scale; });
    team.once([=] { a.work.unit[at.of_key(s) * 2 * s.chunk + row] = unit; });
  }
  float* const v = a.work.values + (at.of_key(s) * s.chunk + at.rest) * s.values();
  delta_convolve<Row>(team, a, kValue, token, at.key, v);
  team.each(s.values(), [=](int64_t i) { v[i] = silu(v[i]); });
  const Row* const rate = delta_row<const Row>(a.rows, kRate, token, at.key);
  const Row* const decay = delta_row<const Row>(a.rows, kDecay, token, at.key);
  team.each(s.shared, [=](int64_t i) {
    const int64_t head = at.head(s, i), place = at.of_head(s, i) * s.chunk + at.rest;
    a.work.rate[place] = sigmoid(load(rate, i));
    a.work.sum[place] = -exponential(a.decay_log[head]) * softplus(load(decay, i) + a.decay_bias[head]);
  });
}

/** From the gradients of q, k and v (in d_qk and left) to those of the convolution's output, in the same places. */
template <class Row>
DEVICE void delta_inputs_back(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const DeltaItem at(s, item, s.size);
  const int64_t token = at.chunk * s.chunk + at.rest, width = s.key_width;
  for (int part = kQuery; part <= kKey; part++) {
    const int64_t row = at.of_key(s) * 2 * s.chunk + part * s.size + at.rest;
    float* const y = a.work.qk + row * width;
    float* const dy = a.work.d_qk + row * width;
    const float unit = a.work.unit[row];
    const float factor = part == kQuery ? 1.0f / square_root(static_cast<float>(width)) : 1.0f;
    const float along = team.sum<float>(width, [=](int64_t i) { return y[i] * dy[i]; }) * unit / factor;
    const float scale = unit * factor;
    team.each(width, [=](int64_t i) { dy[i] = scale * dy[i] - along * y[i]; });
    delta_convolve<Row>(team, a, static_cast<DeltaPart>(part), token, at.key, y);
    team.each(width, [=](int64_t i) { dy[i] *= silu_slope(y[i]); });
  }
  const int64_t row = (at.of_key(s) * s.chunk + at.rest) * s.values();
  float* const v = a.work.values + row;
  float* const dv = a.work.left + row;
  delta_convolve<Row>(team, a, kValue, token, at.key, v);
  team.each(s.values(), [=](int64_t i) { dv[i] *= silu_slope(v[i]); });
}

/** The gradients that delta_inputs_back left for a token of the tile. */
DEVICE const float* delta_d_channels(const DeltaArgs& a, int part, int64_t token, int64_t key) {
  const DeltaSizes& s = a.sizes;
  const int64_t chunk = token / s.chunk, row = token % s.chunk;
  const int64_t place = (s.slot(chunk) * s.key_heads + key) * s.chunk;
  if (part == kValue) return a.work.left + (place + row) * s.values();
  return a.work.d_qk + (2 * place + part * delta_chunk_size(s, chunk) + row) * s.key_width;
}

/**
 * The gradient of the convolution's input: an item is a position, from the first row before the tile on, of a key head.
 */
template <class Row>
DEVICE void delta_convolve_back(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const int64_t key = s.first_key + item % s.keys, early = s.taps - 1, at = item / s.keys - early;
  for (int part = kQuery; part <= kValue; part++) {
    const int64_t channel = delta_channel(s, part, key), after = at - s.tokens + early;
    float* const to_before = a.work.d_before + (at + early) * s.channels() + channel;
    Row* const to_row = delta_row<Row>(a.d_rows, static_cast<DeltaPart>(part), at, key);
    const float* const from_after = a.d_after + after * s.channels() + channel;
    // Gradients of the tokens that read this one, and the taps they used.
    const float *from[kDeltaMostTaps], *taps[kDeltaMostTaps];
    int64_t seen = 0;
    for (int64_t tap = 0; tap < s.taps; tap++) {
      const int64_t token = at + early - tap;
      if (token < 0 || token >= s.tokens) continue;
      from[seen] = delta_d_channels(a, part, token, key);
      taps[seen++] = a.taps + tap * s.channels() + channel;
    }
    team.each_lanes(delta_width(s, part), [&](auto lanes, int64_t i) {
      using L = decltype(lanes);
      L sum = after >= 0 ? lanes_of<L>(from_after + i) : lanes;
      for (int64_t j = 0; j < seen; j++) sum += lanes_of<L>(taps[j] + i) * lanes_of<L>(from[j] + i);
      if (at < 0) {
        store_lanes(to_before, i, sum);
      } else {
        store_lanes(to_row, i, sum);
      }
    });
  }
}

/** The gradient of a tap; an item is a tap of a key head. */
template <class Row>
DEVICE void delta_taps_back(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const int64_t key = s.first_key + item / s.taps, tap = item % s.taps;
  for (int part = kQuery; part <= kValue; part++) {
    const int64_t width = delta_width(s, part), channel = delta_channel(s, part, key);
    float* const dw = a.d_taps + tap * s.channels() + channel;
    for (int64_t token = 0; token < s.tokens; token++) {
      const int64_t at = token - (s.taps - 1) + tap;
      const float* const dy = delta_d_channels(a, part, token, key);
      const float* const early = a.before + (at + s.taps - 1) * s.channels() + channel;
      const Row* const x = delta_row<const Row>(a.rows, static_cast<DeltaPart>(part), at, key);
      if (at < 0) {
        team.each(width, [=](int64_t i) { dw[i] += dy[i] * early[i]; });
      } else {
        team.each(width, [=](int64_t i) { dw[i] += dy[i] * load(x, i); });
      }
    }
  }
}

/** The rows before the next tile, written over those before this one; an item is a key head. */
template <class Row>
DEVICE void delta_after(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const int64_t key = s.first_key + item;
  for (int part = kQuery; part <= kValue; part++) {
    const int64_t width = delta_width(s, part), channel = delta_channel(s, part, key);
    for (int64_t row = 0; row < s.taps - 1; row++) {
      const int64_t at = s.tokens - (s.taps - 1) + row;
      float* const to = a.before + row * s.channels() + channel;
      const float* const early = a.before + (row + s.tokens) * s.channels() + channel;
      const Row* const x = delta_row<const Row>(a.rows, static_cast<DeltaPart>(part), at, key);
      if (at < 0) {
        team.each(width, [=](int64_t i) { to[i] = early[i]; });
      } else {
        team.each(width, [=](int64_t i) { to[i] = load(x, i); });
      }
    }
  }
}

}  // namespace

REVMOE_KERNEL(delta_inputs_float, delta_inputs<float>, DeltaArgs)
REVMOE_KERNEL(delta_inputs_bfloat16, delta_inputs<bfloat16>, DeltaArgs)
REVMOE_KERNEL(delta_inputs_back_float, delta_inputs_back<float>, DeltaArgs)
REVMOE_KERNEL(delta_inputs_back_bfloat16, delta_inputs_back<bfloat16>, DeltaArgs)
REVMOE_KERNEL(delta_convolve_back_float, delta_convolve_back<float>, DeltaArgs)
REVMOE_KERNEL(delta_convolve_back_bfloat16, delta_convolve_back<bfloat16>, DeltaArgs)
REVMOE_KERNEL(delta_taps_back_float, delta_taps_back<float>, DeltaArgs)
REVMOE_KERNEL(delta_taps_back_bfloat16, delta_taps_back<bfloat16>, DeltaArgs)
REVMOE_KERNEL(delta_after_float, delta_after<float>, DeltaArgs)
REVMOE_KERNEL(delta_after_bfloat16, delta_after<bfloat16>, DeltaArgs)

}  // namespace revmoe::kernels
