// Updates that treat each element by itself, in one pass over gradient, state and weight. An item is a chunk. The
// equations are those of the optimizers' files (src/optim), in the same order of operations, so the values are those of
// ATen's operators. Gradients are multiplied by `gradient_scale` (clipping) on the way.
#pragma once
#include "weight.h"

namespace revmoe::kernels {
namespace {

/** w = keep w - rate u. */
struct MoveArgs {
  WeightArgs weight;
  const float* u;
  int64_t elements;
  float keep, rate;
};

template <class Weight>
DEVICE void move(const Team& team, int64_t chunk, const MoveArgs& a) {
  const int64_t first = chunk * kChunkElements;
  each_of(
      team, chunk_size(chunk, a.elements), [&](float& w, float u) { w = w * a.keep - a.rate * u; },
      Weight(a.weight, first), Read<float>{a.u + first});
}

template <class Weight>
DEVICE void store_weight(const Team& team, int64_t chunk, const MoveArgs& a) {
  const int64_t first = chunk * kChunkElements;
  each_of(
      team, chunk_size(chunk, a.elements), [](float& w, float u) { w = u; }, Weight(a.weight, first),
      Read<float>{a.u + first});
}

/** Numbers of AdamW for both widths of state. `new1` is 1 - beta1, computed in float64. */
struct AdamArgs {
  float beta1, beta2, new1, new2, epsilon;
  /** 1 - learning rate * decay; learning rate / (1 - beta1^t); 1 / sqrt(1 - beta2^t). */
  float keep, rate, scale;
  float gradient_scale;

  DEVICE float mean(float m, float g) const { return m + new1 * (g - m); }
  DEVICE float square(float v, float g) const { return v * beta2 + new2 * g * g; }
  DEVICE float moved(float w, float m, float v) const {
    return w * keep - rate * m / (square_root(v) * scale + epsilon);
  }
};

struct AdamWArgs {
  WeightArgs weight;
  AdamArgs adam;
  float* m;
  float* v;
  const float* g;
  int64_t elements;
};

template <class Weight>
DEVICE void adamw(const Team& team, int64_t chunk, const AdamWArgs& a) {
  const int64_t first = chunk * kChunkElements;
  each_of(
      team, chunk_size(chunk, a.elements),
      [&](float& w, float& m, float& v, float g) {
        g *= a.adam.gradient_scale;
        m = a.adam.mean(m, g);
        v = a.adam.square(v, g);
        w = a.adam.moved(w, m, v);
      },
      Weight(a.weight, first), Changed<float>{a.m + first}, Changed<float>{a.v + first}, Read<float>{a.g + first});
}

struct BufferArgs {
  WeightArgs weight;
  float* buffer;
  float* g;
  int64_t elements;
  float gradient_scale;
  float keep, rate;
  /**
   * Lion: the share of the kept mean in the direction, and its decay; then 1 minus these. The others use only the
   * momentum.
   */
  float beta1, beta2, new1, new2;
};

template <class Weight>
DEVICE void sgd(const Team& team, int64_t chunk, const BufferArgs& a) {
  const int64_t first = chunk * kChunkElements;
  each_of(
      team, chunk_size(chunk, a.elements),
      [&](float& w, float& b, float g) {
        b = b * a.beta1 + g * a.gradient_scale;
        w = w * a.keep - a.rate * b;
      },
      Weight(a.weight, first), Changed<float>{a.buffer + first}, Read<float>{a.g + first});
}

template <class Weight>
DEVICE void lion(const Team& team, int64_t chunk, const BufferArgs& a) {
  const int64_t first = chunk * kChunkElements;
  each_of(
      team, chunk_size(chunk, a.elements),
      [&](float& w, float& m, float g) {
        g *= a.gradient_scale;
        const float c = m * a.beta1 + a.new1 * g;
        m = m * a.beta2 + a.new2 * g;
        w = w * a.keep - (c > 0 ? a.rate : (c < 0 ? -a.rate : 0.0f));
      },
      Weight(a.weight, first), Changed<float>{a.buffer + first}, Read<float>{a.g + first});
}

/** For Muon: the gradient becomes the direction that is orthogonalised. */
DEVICE void nesterov(const Team& team, int64_t chunk, const BufferArgs& a) {
  const int64_t first = chunk * kChunkElements;
  each_of(
      team, chunk_size(chunk, a.elements),
      [&](float& b, float& g) {
        g *= a.gradient_scale;
        b += a.new1 * (g - b);
        g = b - (b - g) * a.new1;
      },
      Changed<float>{a.buffer + first}, Changed<float>{a.g + first});
}

}  // namespace

REVMOE_KERNEL(move_plain, move<Plain>, MoveArgs)
REVMOE_KERNEL(move_rounded, move<Rounded>, MoveArgs)
REVMOE_KERNEL(move_corrected, move<Corrected>, MoveArgs)
REVMOE_KERNEL(store_plain, store_weight<Plain>, MoveArgs)
REVMOE_KERNEL(store_rounded, store_weight<Rounded>, MoveArgs)
REVMOE_KERNEL(store_corrected, store_weight<Corrected>, MoveArgs)
REVMOE_KERNEL(adamw_plain, adamw<Plain>, AdamWArgs)
REVMOE_KERNEL(adamw_rounded, adamw<Rounded>, AdamWArgs)
REVMOE_KERNEL(adamw_corrected, adamw<Corrected>, AdamWArgs)
REVMOE_KERNEL(sgd_plain, sgd<Plain>, BufferArgs)
REVMOE_KERNEL(sgd_rounded, sgd<Rounded>, BufferArgs)
REVMOE_KERNEL(sgd_corrected, sgd<Corrected>, BufferArgs)
REVMOE_KERNEL(lion_plain, lion<Plain>, BufferArgs)
REVMOE_KERNEL(lion_rounded, lion<Rounded>, BufferArgs)
REVMOE_KERNEL(lion_corrected, lion<Corrected>, BufferArgs)
REVMOE_KERNEL(nesterov_momentum, nesterov, BufferArgs)

}  // namespace revmoe::kernels
