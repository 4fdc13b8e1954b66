// A stored weight as an update sees it: float32 values that are loaded, changed and stored. In float32 as they are; in bfloat16, rounded up or
// down by chance (src/optim/weights/rounding.ts); in bfloat16 with an int8 below it, which makes 24 bits (src/optim/weights/correction.ts).
#pragma once
#include "numbers.h"

namespace revmoe::kernels {
namespace {

struct WeightArgs {
  void* values;
  int8_t* correction;
  /** Of the random bits; the number of the first element among them, where this is a part of a weight. */
  uint64_t seed;
  int64_t first;

  /** Goes on to what lies `elements` of `size` bytes behind. */
  void advance(int64_t elements, int64_t size) {
    values = static_cast<char*>(values) + elements * size;
    if (correction != nullptr) correction += elements;
    first += elements;
  }
};

struct Plain {
  float* values;
  DEVICE explicit Plain(const WeightArgs& args) : values(static_cast<float*>(args.values)) {}
  DEVICE float load(int64_t i) const { return values[i]; }
  DEVICE void store(int64_t i, float value) const { values[i] = value; }
};

/** Of a bfloat16. Its bits are written as they are: added to, those of a GPU's own would become zero. */
constexpr uint32_t kNotANumber = 0x7fc0u;

struct Rounded {
  bfloat16* values;
  uint64_t seed;
  int64_t first;
  DEVICE explicit Rounded(const WeightArgs& args)
      : values(static_cast<bfloat16*>(args.values)), seed(args.seed), first(args.first) {}
  DEVICE float load(int64_t i) const { return kernels::load(values, i); }
  /** 16 random bits are added below the kept ones, and the rest is cut: E[stored] = value. */
  DEVICE void store(int64_t i, float value) const {
    const uint32_t rounded = (bits_of(value) + (random_bits(seed, first + i) >> 16)) >> 16;
    values[i].bits = static_cast<uint16_t>(value != value ? kNotANumber : rounded);
  }
};

struct Corrected {
  bfloat16* values;
  int8_t* correction;
  DEVICE explicit Corrected(const WeightArgs& args)
      : values(static_cast<bfloat16*>(args.values)), correction(args.correction) {}
  DEVICE float load(int64_t i) const {
    const uint32_t high = static_cast<uint32_t>(values[i].bits) << 16;
    return float_of(high + (static_cast<uint32_t>(static_cast<int32_t>(correction[i])) << 8));
  }
  /** The nearest number of 24 bits, and of it the nearest bfloat16. */
  DEVICE void store(int64_t i, float value) const {
    const uint32_t bits = value != value ? kNotANumber << 16 : (bits_of(value) + 128u) & ~255u;
    const uint32_t high = (bits + 32768u) >> 16;
    values[i].bits = static_cast<uint16_t>(high);
    correction[i] = static_cast<int8_t>(static_cast<int32_t>(bits - (high << 16)) >> 8);
  }
};

}  // namespace
}  // namespace revmoe::kernels
