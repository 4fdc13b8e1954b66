// The sum of the squares of float32 values, in float64: a partial sum for each chunk, and their sum in order, so it is
// the same for any number of threads.
#pragma once
#include "numbers.h"

namespace revmoe::kernels {
namespace {

struct SquaresArgs {
  const float* x;
  int64_t elements;
  double* sums;
};

DEVICE void chunk_squares(const Team& team, int64_t chunk, const SquaresArgs& a) {
  const float* const x = a.x + chunk * kChunkElements;
  const double sum = team.sum<double>(chunk_size(chunk, a.elements), [=](int64_t i) {
    const double own = x[i];
    return own * own;
  });
  team.once([=] { a.sums[chunk] = sum; });
}

struct TotalArgs {
  const double* sums;
  int64_t count;
  double* totals;
};

/** The total of a chunk of sums; totals are added in the same way until one is left. */
DEVICE void total_of_sums(const Team& team, int64_t chunk, const TotalArgs& a) {
  const double* const sums = a.sums + chunk * kChunkElements;
  const double total = team.sum<double>(chunk_size(chunk, a.count), [=](int64_t i) { return sums[i]; });
  team.once([=] { a.totals[chunk] = total; });
}

}  // namespace

REVMOE_KERNEL(chunk_squares_of, chunk_squares, SquaresArgs)
REVMOE_KERNEL(total_of, total_of_sums, TotalArgs)

}  // namespace revmoe::kernels
