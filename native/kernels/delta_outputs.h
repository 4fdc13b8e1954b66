// The norm over what a token reads in a value head, and the gate after it; forward and backward. Rounded where the
// layer's operators round: n, and its product with the weight.
#pragma once
#include "delta.h"

namespace revmoe::kernels {
namespace {

/** An item is a token of a value head. */
template <class Row>
DEVICE void delta_outputs(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const DeltaItem at(s, item, s.size * s.shared);
  const int64_t row = at.rest / s.shared, shared = at.rest % s.shared, width = s.value_width;
  const int64_t token = at.chunk * s.chunk + row;
  const float* const o = a.work.out + (at.of_head(s, shared) * s.chunk + row) * width;
  const Row* const gate = delta_row<const Row>(a.rows, kGate, token, at.key) + shared * width;
  Row* const y = static_cast<Row*>(a.out) + (token * s.heads() + at.head(s, shared)) * width;
  const float square = team.sum<float>(width, [=](int64_t c) { return o[c] * o[c]; });
  const float scale = 1.0f / square_root(square / static_cast<float>(width) + a.epsilon);
  team.each(width, [=](int64_t c) {
    const float n = rounded(y, o[c] * scale);
    store(y, c, rounded(y, a.norm[c] * n) * silu(load(gate, c)));
  });
}

/** The gradients of what was read and of the gate; and, in d_fresh, the token's part of that of the norm's weight. */
template <class Row>
DEVICE void delta_outputs_back(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const DeltaItem at(s, item, s.size * s.shared);
  const int64_t row = at.rest / s.shared, shared = at.rest % s.shared, width = s.value_width;
  const int64_t token = at.chunk * s.chunk + row, own = (at.head(s, shared) * s.chunk + row) * width;
  const float* const o = a.work.out + (at.of_head(s, shared) * s.chunk + row) * width;
  const Row* const gate = delta_row<const Row>(a.rows, kGate, token, at.key) + shared * width;
  Row* const d_gate = delta_row<Row>(a.d_rows, kGate, token, at.key) + shared * width;
  const Row* const dy = static_cast<const Row*>(a.d_out) + (token * s.heads() + at.head(s, shared)) * width;
  float* const d = a.work.d_out + own;
  float* const to_norm = a.work.d_fresh + own;
  const float square = team.sum<float>(width, [=](int64_t c) { return o[c] * o[c]; });
  const float scale = 1.0f / square_root(square / static_cast<float>(width) + a.epsilon);
  team.each(width, [=](int64_t c) {
    const float n = rounded(dy, o[c] * scale), z = load(gate, c), dy_c = load(dy, c);
    const float d_normed = dy_c * silu(z);
    store(d_gate, c, dy_c * rounded(dy, a.norm[c] * n) * silu_slope(z));
    to_norm[c] = d_normed * n;
    d[c] = d_normed * a.norm[c];
  });
  const float along = team.sum<float>(width, [=](int64_t c) { return d[c] * o[c]; });
  const float pull = along * scale * scale / static_cast<float>(width);
  team.each(width, [=](int64_t c) { d[c] = scale * (d[c] - pull * o[c]); });
}

/** Adds the parts of a chunk's tokens to the gradient of the norm's weight. An item is a value head. */
DEVICE void delta_norm_back(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const DeltaItem at(s, item, s.shared);
  const int64_t head = at.head(s, at.rest), width = s.value_width;
  const float* const from = a.work.d_fresh + head * s.chunk * width;
  float* const to = a.work.d_norm + head * width;
  team.each_lanes(width, [=](auto none, int64_t c) {
    using L = decltype(none);
    L sum = lanes_of<L>(to + c);
    for (int64_t i = 0; i < s.size; i++) sum += lanes_of<L>(from + i * width + c);
    store_lanes(to, c, sum);
  });
}

}  // namespace

REVMOE_KERNEL(delta_outputs_float, delta_outputs<float>, DeltaArgs)
REVMOE_KERNEL(delta_outputs_bfloat16, delta_outputs<bfloat16>, DeltaArgs)
REVMOE_KERNEL(delta_outputs_back_float, delta_outputs_back<float>, DeltaArgs)
REVMOE_KERNEL(delta_outputs_back_bfloat16, delta_outputs_back<bfloat16>, DeltaArgs)
REVMOE_KERNEL(delta_norm_back_chunk, delta_norm_back, DeltaArgs)

}  // namespace revmoe::kernels
