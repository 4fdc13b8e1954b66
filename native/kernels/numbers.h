// Numbers as kernels see them: bfloat16 as its 16 bits, float32 by its pattern, and random bits by a counter.
#pragma once
#include "kernel.h"

namespace revmoe::kernels {
namespace {

/** The bits of a bfloat16. */
struct bfloat16 {
  uint16_t bits;
};

DEVICE uint32_t bits_of(float value) {
#ifdef __CUDACC_RTC__
  return __float_as_uint(value);
#else
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

DEVICE float float_of(uint32_t bits) {
#ifdef __CUDACC_RTC__
  return __uint_as_float(bits);
#else
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

DEVICE float square_root(float x) { return sqrtf(x); }
DEVICE double square_root(double x) { return sqrt(x); }
DEVICE float magnitude(float x) { return float_of(bits_of(x) & 0x7fffffffu); }

DEVICE float load(const float* x, int64_t i) { return x[i]; }
DEVICE float load(const bfloat16* x, int64_t i) { return float_of(static_cast<uint32_t>(x[i].bits) << 16); }

/** The nearest bfloat16, ties to even; NaN stays NaN. The same as ATen's casts. */
DEVICE uint16_t nearest_bfloat16(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>(value != value ? 0x7fc0u : rounded);
}

DEVICE void store(float* x, int64_t i, float value) { x[i] = value; }
DEVICE void store(bfloat16* x, int64_t i, float value) { x[i].bits = nearest_bfloat16(value); }

/** The floats that each_lanes of a team takes: side by side, with any alignment. */
template <class L>
DEVICE L lanes_of(const float* x) {
#ifdef REVMOE_GPU
  return *x;
#else
  L values;
  __builtin_memcpy(&values, x, sizeof values);
  return values;
#endif
}
template <class L>
DEVICE L lanes_of(const bfloat16* x) {
  L values{};
  if constexpr (sizeof(L) == sizeof(float)) {
    values = load(x, 0);
  } else {
    float each[sizeof(L) / sizeof(float)];
    for (int lane = 0; lane < static_cast<int>(sizeof(L) / sizeof(float)); lane++) each[lane] = load(x, lane);
    __builtin_memcpy(&values, each, sizeof values);
  }
  return values;
}
DEVICE void store_lanes(float* x, int64_t i, float value) { x[i] = value; }
DEVICE void store_lanes(bfloat16* x, int64_t i, float value) { store(x, i, value); }
#ifndef REVMOE_GPU
DEVICE void store_lanes(float* x, int64_t i, const Lanes& values) { __builtin_memcpy(x + i, &values, sizeof values); }
DEVICE void store_lanes(bfloat16* x, int64_t i, const Lanes& values) {
  float each[sizeof(Lanes) / sizeof(float)];
  __builtin_memcpy(each, &values, sizeof values);
  for (int lane = 0; lane < static_cast<int>(sizeof(Lanes) / sizeof(float)); lane++) store(x, i + lane, each[lane]);
}
#endif

/**
 * 32 random-looking bits for each counter and seed: a multiplicative hash of two rounds ("lowbias32" of C. Wellons's
 * search, MIT: bias 0.11 of full avalanche, in units of 1/1000). Its input is the counter; the seed's upper half is
 * added in the middle.
 */
DEVICE uint32_t random_bits(uint64_t seed, int64_t counter) {
  uint32_t x = static_cast<uint32_t>(counter) ^ static_cast<uint32_t>(seed);
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x += static_cast<uint32_t>(seed >> 32) + 0x9e3779b9u * static_cast<uint32_t>(counter >> 32);
  x *= 0x846ca68bu;
  x ^= x >> 16;
  x *= 0x21f0aaadu;
  return x ^ (x >> 15);
}

/**
 * e^x for x between -87.3 and 88, within 2 units in the last place: 2^n p(r) with r = x - n ln 2 between +-ln 2 / 2
 * (Cody and Waite's two-part ln 2). NaN for NaN.
 */
DEVICE float exponential_within(float x) {
  // Adding 1.5 * 2^23 rounds a number to the nearest whole one, which is then in the lower bits: this avoids a
  // conversion, which is slow on a GPU.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = (p * r + 1.0f) * r + 1.0f;
  return p * float_of((bits_of(shifted) + 127u) << 23);
}

/** e^x: zero below -87.3, where float32 has no normal numbers left; infinite above 88. */
DEVICE float exponential(float x) {
  const float power = exponential_within(x > 88.0f ? 88.0f : (x < -87.3f ? -87.3f : x));
  return x < -87.3f ? 0.0f : (x > 88.0f ? float_of(0x7f800000u) : power);
}

/** The same for x at or below zero, with fewer comparisons. */
DEVICE float exponential_down(float x) {
  const float power = exponential_within(x < -87.3f ? -87.3f : x);
  return x < -87.3f ? 0.0f : power;
}

}  // namespace
}  // namespace revmoe::kernels
