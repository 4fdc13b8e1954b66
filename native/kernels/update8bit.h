// AdamW with moments in 8 bits (src/optim/state/block-quantize.ts) in one pass. An item is a block of elements that share a scale: their
// largest magnitude.
#pragma once
#include "update.h"

namespace revmoe::kernels {
namespace {

constexpr int64_t kBlockElements = 256;
/** Of a block of zeros, so that nothing is divided by zero. */
constexpr float kSmallestScale = 1e-38f;

/** A moment as codes and scales, and the map: its 256 values, the middle between each and the next, and the code of the smallest float32 with given upper 16 bits. */
struct MomentArgs {
  uint8_t* codes;
  float* scales;
  const float* values;
  const float* bounds;
  const uint8_t* lowest;
};

/** What of the scale it is, between -1 and 1. */
DEVICE float share_of(float x, float scale) {
  const float share = x / (scale > kSmallestScale ? scale : kSmallestScale);
  return share < -1.0f ? -1.0f : (share > 1.0f ? 1.0f : share);
}

/** The nearest value's. No two bounds have their upper 16 bits in common, so that these say the code or the one below. */
DEVICE uint8_t code_of(const MomentArgs& a, float share) {
  const int32_t code = a.lowest[(static_cast<int32_t>(bits_of(share)) >> 16) + 32768];
  return static_cast<uint8_t>(code + (share > a.bounds[code] ? 1 : 0));
}

struct AdamW8bitArgs {
  WeightArgs weight;
  AdamArgs adam;
  MomentArgs m, v;
  const float* g;
  int64_t elements;
};

template <class Weight>
DEVICE void adamw8bit(const Team& team, int64_t block, const AdamW8bitArgs& a) {
  const Weight w(a.weight);
  const int64_t first = block * kBlockElements;
  const int64_t left = a.elements - first;
  const int64_t n = left < kBlockElements ? left : kBlockElements;
  const float m_scale = a.m.scales[block], v_scale = a.v.scales[block];
  OfEach<float, kBlockElements> m, v;
  team.each(n, [&](int64_t element) {
    const int64_t i = first + element;
    const float g = a.g[i] * a.adam.gradient_scale;
    m[element] = a.adam.mean(a.m.values[a.m.codes[i]] * m_scale, g);
    v[element] = a.adam.square(a.v.values[a.v.codes[i]] * v_scale, g);
  });
  team.each(n, [&](int64_t i) { w.store(first + i, a.adam.moved(w.load(first + i), m[i], v[i])); });
  const float m_most = team.most<float>(n, 0.0f, [&](int64_t i) { return magnitude(m[i]); });
  const float v_most = team.most<float>(n, 0.0f, [&](int64_t i) { return magnitude(v[i]); });
  team.each(n, [&](int64_t i) {
    m[i] = share_of(m[i], m_most);
    v[i] = share_of(v[i], v_most);
  });
  team.each(n, [&](int64_t i) {
    a.m.codes[first + i] = code_of(a.m, m[i]);
    a.v.codes[first + i] = code_of(a.v, v[i]);
  });
  team.once([=] {
    a.m.scales[block] = m_most;
    a.v.scales[block] = v_most;
  });
}

}  // namespace

REVMOE_KERNEL(adamw8bit_plain, adamw8bit<Plain>, AdamW8bitArgs)
REVMOE_KERNEL(adamw8bit_rounded, adamw8bit<Rounded>, AdamW8bitArgs)
REVMOE_KERNEL(adamw8bit_corrected, adamw8bit<Corrected>, AdamW8bitArgs)

}  // namespace revmoe::kernels
