// A stored weight as an update sees it: float32 values that are loaded, changed and stored. float32 is stored
// unchanged; bfloat16 is rounded up or down at random (src/optim/weights/rounding.ts); or bfloat16 has an int8 below
// it, which makes 24 bits (src/optim/weights/correction.ts).
#pragma once
#include "elements.h"

namespace revmoe::kernels {
namespace {

struct WeightArgs {
  void* values;
  int8_t* correction;
  /** Seed of the random bits; the number of the first element among them, if this is a part of a weight. */
  uint64_t seed;
  int64_t first;

  /** Moves on by `elements` elements of `size` bytes. */
  void advance(int64_t elements, int64_t size) {
    values = static_cast<char*>(values) + elements * size;
    if (correction != nullptr) correction += elements;
    first += elements;
  }
};

/** A weight's elements from `first` on, for use as in elements.h; so are the next two. */
struct Plain : Changed<float> {
  DEVICE Plain(const WeightArgs& args, int64_t first) : Changed<float>{static_cast<float*>(args.values) + first} {}
};

/** NaN as a bfloat16. It is written directly, because a GPU's own NaN would become zero when bits are added to it. */
constexpr uint32_t kNotANumber = 0x7fc0u;

struct Rounded {
  bfloat16* values;
  uint64_t seed;
  int64_t first;
  DEVICE Rounded(const WeightArgs& args, int64_t start)
      : values(static_cast<bfloat16*>(args.values) + start), seed(args.seed), first(args.first + start) {}
  DEVICE bool aligned() const { return is_aligned(values); }
  template <bool kWhole>
  DEVICE Neighbours<float> load(int64_t i, int64_t count) const {
    const Neighbours<bfloat16> bits = take<kWhole>(values + i, count);
    Neighbours<float> x;
    for (int each = 0; each < kNeighbours; each++) x.of[each] = kernels::load(bits.of, each);
    return x;
  }
  /** Adds 16 random bits below the kept ones, then cuts the rest: E[stored] = value. */
  template <bool kWhole>
  DEVICE void store(int64_t i, int64_t count, const Neighbours<float>& x) const {
    Neighbours<bfloat16> bits;
    for (int each = 0; each < kNeighbours; each++) {
      const float value = x.of[each];
      const uint32_t rounded = (bits_of(value) + (random_bits(seed, first + i + each) >> 16)) >> 16;
      bits.of[each].bits = static_cast<uint16_t>(value != value ? kNotANumber : rounded);
    }
    put<kWhole>(values + i, count, bits);
  }
};

struct Corrected {
  bfloat16* values;
  int8_t* correction;
  DEVICE Corrected(const WeightArgs& args, int64_t first)
      : values(static_cast<bfloat16*>(args.values) + first), correction(args.correction + first) {}
  DEVICE bool aligned() const { return is_aligned(values) && is_aligned(correction); }
  template <bool kWhole>
  DEVICE Neighbours<float> load(int64_t i, int64_t count) const {
    const Neighbours<bfloat16> high = take<kWhole>(values + i, count);
    const Neighbours<int8_t> low = take<kWhole>(correction + i, count);
    Neighbours<float> x;
    for (int each = 0; each < kNeighbours; each++)
      x.of[each] = float_of((static_cast<uint32_t>(high.of[each].bits) << 16) +
                            (static_cast<uint32_t>(static_cast<int32_t>(low.of[each])) << 8));
    return x;
  }
  /** The nearest number of 24 bits, and the bfloat16 nearest to that. */
  template <bool kWhole>
  DEVICE void store(int64_t i, int64_t count, const Neighbours<float>& x) const {
    Neighbours<bfloat16> highs;
    Neighbours<int8_t> lows;
    for (int each = 0; each < kNeighbours; each++) {
      const float value = x.of[each];
      const uint32_t bits = value != value ? kNotANumber << 16 : (bits_of(value) + 128u) & ~255u;
      const uint32_t high = (bits + 32768u) >> 16;
      highs.of[each].bits = static_cast<uint16_t>(high);
      lows.of[each] = static_cast<int8_t>(static_cast<int32_t>(bits - (high << 16)) >> 8);
    }
    put<kWhole>(values + i, count, highs);
    put<kWhole>(correction + i, count, lows);
  }
};

}  // namespace
}  // namespace revmoe::kernels
