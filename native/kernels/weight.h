// A stored weight as an update sees it: float32 values that are loaded, changed and stored. In float32 as they are; in bfloat16, rounded up or
// down by chance (src/optim/weights/rounding.ts); in bfloat16 with an int8 below it, which makes 24 bits (src/optim/weights/correction.ts).
#pragma once
#include "elements.h"

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

/** Elements from one of the weight on, as those of elements.h; so are the others. */
struct Plain : Changed<float> {
  DEVICE Plain(const WeightArgs& args, int64_t first) : Changed<float>{static_cast<float*>(args.values) + first} {}
};

/** Of a bfloat16. Its bits are written as they are: added to, those of a GPU's own would become zero. */
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
  /** 16 random bits are added below the kept ones, and the rest is cut: E[stored] = value. */
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
  /** The nearest number of 24 bits, and of it the nearest bfloat16. */
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
