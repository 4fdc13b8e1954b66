// Updates whose elements know nothing of each other, in one pass over gradient, state and weight. An item is a chunk. The equations are those
// of the optimizers' files (src/optim), in the same order of operations, so that the values are those of ATen's operators.
#pragma once
#include "weight.h"

namespace revmoe::kernels {
namespace {

struct StoreArgs {
  WeightArgs weight;
  const float* values;
  int64_t elements;
};

template <class Weight>
DEVICE void store_weight(const Team& team, int64_t chunk, const StoreArgs& a) {
  const Weight w(a.weight);
  const int64_t first = chunk * kChunkElements;
  team.each(chunk_size(chunk, a.elements), [=](int64_t i) { w.store(first + i, a.values[first + i]); });
}

struct AdamWArgs {
  WeightArgs weight;
  float* m;
  float* v;
  const float* g;
  int64_t elements;
  float beta1, beta2, epsilon;
  /** 1 - learning rate * decay; learning rate / (1 - beta1^t); 1 / sqrt(1 - beta2^t). */
  float keep, rate, scale;
};

template <class Weight>
DEVICE void adamw(const Team& team, int64_t chunk, const AdamWArgs& a) {
  const Weight w(a.weight);
  const int64_t first = chunk * kChunkElements;
  team.each(chunk_size(chunk, a.elements), [=](int64_t element) {
    const int64_t i = first + element;
    const float g = a.g[i];
    const float m = a.m[i] + (1 - a.beta1) * (g - a.m[i]);
    const float v = a.v[i] * a.beta2 + (1 - a.beta2) * g * g;
    a.m[i] = m;
    a.v[i] = v;
    w.store(i, w.load(i) * a.keep - a.rate * m / (square_root(v) * a.scale + a.epsilon));
  });
}

}  // namespace

REVMOE_KERNEL(store_plain, store_weight<Plain>, StoreArgs)
REVMOE_KERNEL(store_rounded, store_weight<Rounded>, StoreArgs)
REVMOE_KERNEL(store_corrected, store_weight<Corrected>, StoreArgs)
REVMOE_KERNEL(adamw_plain, adamw<Plain>, AdamWArgs)
REVMOE_KERNEL(adamw_rounded, adamw<Rounded>, AdamWArgs)
REVMOE_KERNEL(adamw_corrected, adamw<Corrected>, AdamWArgs)

}  // namespace revmoe::kernels
