// AdamW with moments in 8 bits (src/optim/state/block-quantize.ts) in one pass. Blocks of elements share a scale: their
// largest magnitude. A warp does a block. An item has enough blocks to make it worthwhile to copy the maps to a GPU's
// shared memory.
#pragma once
#include "update.h"

namespace revmoe::kernels {
namespace {

constexpr int64_t kBlockElements = 256;
constexpr int64_t kBlocksOfItem = 32;
/** Scale of a block of zeros, so that nothing is divided by zero. */
constexpr float kSmallestScale = 1e-38f;
/**
 * 2^-24: smaller magnitudes are nearest to zero. Then its upper 16 bits, and how many such halves there are from it to
 * above 1.
 */
constexpr float kSmallest = 1.0f / (1 << 24);
constexpr int32_t kSmallestUpper = 103 * 128;
constexpr int32_t kMagnitudes = 24 * 128 + 8;

/**
 * The dynamic map in ascending order, the middle between each value and the next, and for given upper 16 bits the code
 * of the smallest float32 with them; those of negative numbers come last.
 */
template <bool kSigned>
struct alignas(uint64_t) Map {
  float values[256] = {}, bounds[256] = {};
  uint8_t lowest[2 * kMagnitudes] = {};
#ifndef REVMOE_GPU
  /** The same for all upper 16 bits: too large for a GPU's shared memory, but less work for each element. */
  uint8_t by_upper[1 << 16] = {};
#endif

  constexpr Map() {
    constexpr double kDecades[] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1};
    constexpr int kZero = kSigned ? 127 : 0;
    int code = kZero + 1;
    for (int decade = 0; decade < 7; decade++) {
      const int count = (kSigned ? 1 : 2) << decade;
      for (int i = 0; i < count; i++, code++) {
        values[code] = static_cast<float>(kDecades[decade] * (0.1 + 0.9 * (i + 0.5) / count));
        if (kSigned) values[2 * kZero - code] = -values[code];
      }
    }
    values[255] = 1;
    for (int i = 0; i < 255; i++) bounds[i] = static_cast<float>((static_cast<double>(values[i]) + values[i + 1]) / 2);
    bounds[255] = 2;
    int above = kZero, below = kZero;
    double power = kSmallest;
    for (int i = 0; i < kMagnitudes; i++) {
      if (i > 0 && i % 128 == 0) power *= 2;
      const double smallest = power * (1 + i % 128 / 128.0);
      while (bounds[above] < smallest) above++;
      while (below > 0 && bounds[below - 1] >= -smallest - power * 65535 / (1 << 23)) below--;
      lowest[i] = static_cast<uint8_t>(above);
      lowest[kMagnitudes + i] = static_cast<uint8_t>(below);
    }
#ifndef REVMOE_GPU
    for (int upper = 0; upper < 1 << 16; upper++) by_upper[upper] = lowest[place_of(upper)];
#endif
  }

  /** The place in `lowest` for a float32's upper 16 bits. */
  DEVICE static constexpr int32_t place_of(int32_t upper) {
    const int32_t at = (upper & 0x7fff) - kSmallestUpper;
    const int32_t negative = kSigned && upper >> 15 != 0 ? kMagnitudes : 0;
    return (at < 0 ? 0 : (at < kMagnitudes ? at : kMagnitudes - 1)) + negative;
  }

  /**
   * The code of the nearest value. No two bounds have the same upper 16 bits, so these give the code or the one below
   * it.
   */
  DEVICE uint8_t code_of(float share) const {
    const auto upper = static_cast<int32_t>(bits_of(share) >> 16);
#ifdef REVMOE_GPU
    const int32_t code = lowest[place_of(upper)];
#else
    const int32_t code = by_upper[upper];
#endif
    return static_cast<uint8_t>(code + (share > bounds[code] ? 1 : 0));
  }
};
template <bool kSigned>
constexpr Map<kSigned> kMap;

/** A map, copied to a GPU's shared memory; on a CPU, the map itself. */
template <bool kSigned>
DEVICE const Map<kSigned>& near(const Team& team) {
#ifdef REVMOE_GPU
  constexpr int64_t kWords = sizeof(Map<kSigned>) / sizeof(uint64_t);
  __shared__ uint64_t words[kWords];
  team.each(kWords, [](int64_t i) { words[i] = reinterpret_cast<const uint64_t*>(&kMap<kSigned>)[i]; });
  return *reinterpret_cast<const Map<kSigned>*>(words);
#else
  return kMap<kSigned>;
#endif
}

/** A moment as codes and scales. */
struct MomentArgs {
  uint8_t* codes;
  float* scales;
};

/** The factor that brings a block's numbers between -1 and 1, up to the last bit. */
DEVICE float share_of(float scale) { return 1 / (scale > kSmallestScale ? scale : kSmallestScale); }

struct AdamW8bitArgs {
  WeightArgs weight;
  AdamArgs adam;
  MomentArgs m, v;
  const float* g;
  int64_t elements;
};

DEVICE int64_t blocks_of(int64_t elements) { return (elements + kBlockElements - 1) / kBlockElements; }

template <class Weight, class Worker>
DEVICE void update_block(const Worker& worker, int64_t block, const AdamW8bitArgs& a, const Map<true>& of_m,
                         const Map<false>& of_v) {
  const int64_t first = block * kBlockElements;
  const int64_t n = a.elements - first < kBlockElements ? a.elements - first : kBlockElements;
  // Read through a sum, which all threads of the worker must reach, so none reads a scale that another has already
  // overwritten.
  const auto scale_of = [&](const float* scales) {
    return worker.template sum<float>(1, [=](int64_t) { return scales[block]; });
  };
  const float m_scale = scale_of(a.m.scales), v_scale = scale_of(a.v.scales);
  Held<float, kBlockElements> m, v;
  each_of(
      worker, n,
      [&](float& mean, float& square, float g, uint8_t m_code, uint8_t v_code) {
        g *= a.adam.gradient_scale;
        mean = a.adam.mean(of_m.values[m_code] * m_scale, g);
        square = a.adam.square(of_v.values[v_code] * v_scale, g);
      },
      m, v, Read<float>{a.g + first}, Read<uint8_t>{a.m.codes + first}, Read<uint8_t>{a.v.codes + first});
  each_of(
      worker, n, [&](float& w, float mean, float square) { w = a.adam.moved(w, mean, square); },
      Weight(a.weight, first), m, v);
  const float m_most = m.most(worker, n, magnitude), v_most = v.most(worker, n, magnitude);
  const float m_share = share_of(m_most), v_share = share_of(v_most);
  each_of(
      worker, n,
      [&](float& mean, float& square) {
        mean *= m_share;
        square *= v_share;
      },
      m, v);
  each_of(
      worker, n,
      [&](uint8_t& m_code, uint8_t& v_code, float mean, float square) {
        m_code = of_m.code_of(mean);
        v_code = of_v.code_of(square);
      },
      Written<uint8_t>(a.m.codes + first), Written<uint8_t>(a.v.codes + first), m, v);
  worker.once([&] {
    a.m.scales[block] = m_most;
    a.v.scales[block] = v_most;
  });
}

template <class Weight>
DEVICE void adamw8bit(const Team& team, int64_t item, const AdamW8bitArgs& a) {
  const Map<true>& m = near<true>(team);
  const Map<false>& v = near<false>(team);
  team.sync();
  const int64_t first = item * kBlocksOfItem, left = blocks_of(a.elements) - first;
  team.split(left < kBlocksOfItem ? left : kBlocksOfItem,
             [&](int64_t block, const auto& worker) { update_block<Weight>(worker, first + block, a, m, v); });
  team.sync();
}

}  // namespace

REVMOE_KERNEL(adamw8bit_plain, adamw8bit<Plain>, AdamW8bitArgs)
REVMOE_KERNEL(adamw8bit_rounded, adamw8bit<Rounded>, AdamW8bitArgs)
REVMOE_KERNEL(adamw8bit_corrected, adamw8bit<Corrected>, AdamW8bitArgs)

}  // namespace revmoe::kernels
