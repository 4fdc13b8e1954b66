// Rows: how kernels see tensors of one to three dimensions. The last dimension is dense, the others may be parts of
// wider tensors. And sums of dense rows, in a fixed order.
#pragma once
#include "groups.h"

namespace revmoe::kernels {
namespace {

/** Rows of `heads` heads for each token: where each begins, in elements. */
struct RowsArgs {
  int64_t rows, heads, width;
  int64_t token, head;

  DEVICE int64_t token_of(int64_t row) const {
    // A GPU needs hundreds of instructions for a division of 64 bits, and tens for 32.
    return static_cast<int64_t>(static_cast<uint32_t>(row) / static_cast<uint32_t>(heads));
  }
  DEVICE int64_t at(int64_t row) const {
    const int64_t of = token_of(row);
    return of * token + (row - of * heads) * head;
  }
  /** Whether rows of elements from `x` on begin at multiples of 16 bytes. */
  DEVICE bool even(const void* x) const { return aligned(x) && token % kTogether == 0 && head % kTogether == 0; }
};

/** Number of rows that one item adds, few enough that the compiler unrolls the loop, and number of their columns. */
constexpr int64_t kRowsTogether = 16;
constexpr int64_t kColumnsTogether = 256;

DEVICE int64_t groups_of_rows(int64_t rows) { return (rows + kRowsTogether - 1) / kRowsTogether; }
DEVICE int64_t groups_of_columns(int64_t columns) { return (columns + kColumnsTogether - 1) / kColumnsTogether; }

struct SumRowsArgs {
  const float* from;
  float* sums;
  int64_t rows, columns;
};

/** The sum of each group of rows. An item is some columns of a group. */
DEVICE void add_rows(const Team& team, int64_t item, const SumRowsArgs& a) {
  const int64_t group = item / groups_of_columns(a.columns);
  const int64_t column = item % groups_of_columns(a.columns) * kColumnsTogether;
  const int64_t left = a.columns - column;
  const int64_t row = group * kRowsTogether;
  const int64_t rows = a.rows - row < kRowsTogether ? a.rows - row : kRowsTogether;
  const float* const from = a.from + row * a.columns + column;
  float* const sums = a.sums + group * a.columns + column;
  const int64_t columns = a.columns;
  team.each(left < kColumnsTogether ? left : kColumnsTogether, [=](int64_t i) {
    float sum = 0;
    for (int64_t k = 0; k < kRowsTogether; k++) {
      const float next = from[(k < rows ? k : 0) * columns + i];
      sum += k < rows ? next : 0;
    }
    sums[i] = sum;
  });
}

}  // namespace

REVMOE_KERNEL(sum_rows, add_rows, SumRowsArgs)

}  // namespace revmoe::kernels
