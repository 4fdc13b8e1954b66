// The update of Adafactor and AdaLomo (src/optim/factored.ts) for matrices side by side, each by itself, in three passes over the gradient,
// which stays as it is: averages of the squares of rows and columns; the squares of the update; the update. Behind the first two, a small
// kernel ends what was summed in parts, always in the same order: sums of columns by bands of rows, sums over a matrix by its rows. Sums are in
// float64. A vector has an average for each element, and is one matrix whose rows are chunks.
#pragma once
#include "weight.h"

namespace revmoe::kernels {
namespace {

/** Rows of a band whose squares are in registers together: a GPU then writes sums of columns that many times less often. */
#ifdef REVMOE_GPU
constexpr int kFactorRows = 8;
#else
constexpr int kFactorRows = 1;
#endif
/** Columns of an item that ends sums of columns. */
constexpr int64_t kFactorColumns = 256;
constexpr float kGradientFloor = 1e-30f;
constexpr double kWeightFloor = 1e-3;

struct FactoredArgs {
  WeightArgs weight;
  const float* g;
  /** Averages of g^2, [matrices, rows] and [matrices, columns]; of a vector, one for each element, and none. */
  float* row;
  float* column;
  /** Of a matrix; rows of a band and bands. */
  int64_t rows, columns, elements, height, bands;
  /** [matrices, bands, columns]; [matrices, rows, 2]: of the update, of the weights. */
  double* column_sums;
  double* squares;
  /** [matrices, columns]: 1 / sqrt(column); [matrices]: mean of row; [matrices, 2]: what is kept of a weight, and the factor of the update. */
  float* column_factor;
  float* row_mean;
  float* steps;
  /** Decay of the averages, and 1 minus it. */
  float keep, fresh;
  float gradient_scale;
  double learning_rate, decay, clip;
  bool relative;

  DEVICE float averaged(float average, float value) const { return average * keep + fresh * value; }
};

template <int kRows>
DEVICE void add_rows(const Team& team, const FactoredArgs& a, int64_t row, double* column_sums) {
  const float* const g = a.g + row * a.columns;
  const int64_t columns = a.columns;
  const float scale = a.gradient_scale;
  double sums[kRows];
  team.sums(columns, sums, [=](int64_t i, double* squares) {
    double column = column_sums[i];
    for (int each = 0; each < kRows; each++) {
      const float x = g[each * columns + i] * scale;
      squares[each] = x * x + kGradientFloor;
      column += squares[each];
    }
    column_sums[i] = column;
  });
  team.once([&] {
    for (int each = 0; each < kRows; each++)
      a.row[row + each] = a.averaged(a.row[row + each], static_cast<float>(sums[each] / columns));
  });
}

DEVICE void factored_bands(const Team& team, int64_t band, const FactoredArgs& a) {
  const int64_t matrix = band / a.bands, of_matrix = band % a.bands * a.height;
  const int64_t count = a.height < a.rows - of_matrix ? a.height : a.rows - of_matrix;
  const int64_t first = matrix * a.rows + of_matrix;
  double* const column_sums = a.column_sums + band * a.columns;
  // Who sets a column to zero is who adds to it.
  team.each(a.columns, [=](int64_t i) { column_sums[i] = 0; });
  int64_t row = 0;
  for (; row + kFactorRows <= count; row += kFactorRows) add_rows<kFactorRows>(team, a, first + row, column_sums);
  for (; row < count; row++) add_rows<1>(team, a, first + row, column_sums);
}

/** Items of a matrix: some of its columns each, and one for the mean over its rows. */
DEVICE int64_t column_items(int64_t columns) { return (columns + kFactorColumns - 1) / kFactorColumns + 1; }

DEVICE void factored_averages(const Team& team, int64_t item, const FactoredArgs& a) {
  const int64_t items = column_items(a.columns);
  const int64_t matrix = item / items, first = item % items * kFactorColumns;
  if (item % items == items - 1) {
    const float* const row = a.row + matrix * a.rows;
    const double sum = team.sum<double>(a.rows, [=](int64_t i) { return row[i]; });
    team.once([=] { a.row_mean[matrix] = static_cast<float>(sum / a.rows); });
    return;
  }
  const int64_t left = a.columns - first;
  team.each(left < kFactorColumns ? left : kFactorColumns, [=](int64_t i) {
    const double* const sums = a.column_sums + matrix * a.bands * a.columns + first + i;
    double sum = 0;
    for (int64_t band = 0; band < a.bands; band++) sum += sums[band * a.columns];
    const int64_t at = matrix * a.columns + first + i;
    const float average = a.averaged(a.column[at], static_cast<float>(sum / a.rows));
    a.column[at] = average;
    a.column_factor[at] = 1 / square_root(average);
  });
}

/** The update of a row before the learning rate: g / sqrt(row column / mean of row). */
struct RowUpdate {
  const float* g;
  const float* column_factor;
  float row_factor, scale;
  DEVICE RowUpdate(const FactoredArgs& a, int64_t row)
      : g(a.g + row * a.columns),
        column_factor(a.column_factor + row / a.rows * a.columns),
        row_factor(1 / square_root(a.row[row] / a.row_mean[row / a.rows])),
        scale(a.gradient_scale) {}
  DEVICE float operator()(int64_t i) const { return g[i] * scale * column_factor[i] * row_factor; }
};

/** The same of a chunk of a vector. */
struct ChunkUpdate {
  const float* g;
  const float* average;
  float scale;
  DEVICE ChunkUpdate(const FactoredArgs& a, int64_t chunk)
      : g(a.g + chunk * kChunkElements), average(a.row + chunk * kChunkElements), scale(a.gradient_scale) {}
  DEVICE float operator()(int64_t i) const { return g[i] * scale * (1 / square_root(average[i])); }
};

template <class Weight, class Update>
DEVICE void square_sums(const Team& team, int64_t item, int64_t first, int64_t n, const FactoredArgs& a, Update u) {
  const Weight w(a.weight);
  const double of_update = team.sum<double>(n, [=](int64_t i) {
    const double own = u(i);
    return own * own;
  });
  const double of_weights = !a.relative ? 0 : team.sum<double>(n, [=](int64_t i) {
    const double own = w.load(first + i);
    return own * own;
  });
  team.once([=] {
    a.squares[2 * item] = of_update;
    a.squares[2 * item + 1] = of_weights;
  });
}

template <class Weight>
DEVICE void factored_squares(const Team& team, int64_t row, const FactoredArgs& a) {
  square_sums<Weight>(team, row, row * a.columns, a.columns, a, RowUpdate(a, row));
}

template <class Weight>
DEVICE void vector_squares(const Team& team, int64_t chunk, const FactoredArgs& a) {
  const int64_t first = chunk * kChunkElements, n = chunk_size(chunk, a.elements);
  team.each(n, [=](int64_t element) {
    const int64_t i = first + element;
    const float x = a.g[i] * a.gradient_scale;
    a.row[i] = a.averaged(a.row[i], x * x + kGradientFloor);
  });
  team.sync();
  square_sums<Weight>(team, chunk, first, n, a, ChunkUpdate(a, chunk));
}

DEVICE void factored_steps(const Team& team, int64_t matrix, const FactoredArgs& a) {
  const double* const squares = a.squares + 2 * matrix * a.rows;
  const double of_update = team.sum<double>(a.rows, [=](int64_t i) { return squares[2 * i]; });
  const double of_weights = team.sum<double>(a.rows, [=](int64_t i) { return squares[2 * i + 1]; });
  team.once([=] {
    const double size = square_root(of_weights / a.elements), off = square_root(of_update / a.elements);
    const double rate = !a.relative ? a.learning_rate : a.learning_rate * (size > kWeightFloor ? size : kWeightFloor);
    a.steps[2 * matrix] = static_cast<float>(1 - rate * a.decay);
    a.steps[2 * matrix + 1] = static_cast<float>(a.clip > 0 && off > a.clip ? rate / (off / a.clip) : rate);
  });
}

template <class Weight, class Update>
DEVICE void step(const Team& team, int64_t first, int64_t n, const FactoredArgs& a, const float* steps, Update u) {
  const Weight w(a.weight);
  const float keep = steps[0], rate = steps[1];
  team.each(n, [=](int64_t i) { w.store(first + i, w.load(first + i) * keep - rate * u(i)); });
}

template <class Weight>
DEVICE void factored_update(const Team& team, int64_t row, const FactoredArgs& a) {
  step<Weight>(team, row * a.columns, a.columns, a, a.steps + 2 * (row / a.rows), RowUpdate(a, row));
}

template <class Weight>
DEVICE void vector_update(const Team& team, int64_t chunk, const FactoredArgs& a) {
  const int64_t first = chunk * kChunkElements;
  step<Weight>(team, first, chunk_size(chunk, a.elements), a, a.steps, ChunkUpdate(a, chunk));
}

}  // namespace

REVMOE_KERNEL(factored_bands_of, factored_bands, FactoredArgs)
REVMOE_KERNEL(factored_averages_of, factored_averages, FactoredArgs)
REVMOE_KERNEL(factored_steps_of, factored_steps, FactoredArgs)
REVMOE_KERNEL(factored_squares_plain, factored_squares<Plain>, FactoredArgs)
REVMOE_KERNEL(factored_squares_rounded, factored_squares<Rounded>, FactoredArgs)
REVMOE_KERNEL(factored_squares_corrected, factored_squares<Corrected>, FactoredArgs)
REVMOE_KERNEL(factored_update_plain, factored_update<Plain>, FactoredArgs)
REVMOE_KERNEL(factored_update_rounded, factored_update<Rounded>, FactoredArgs)
REVMOE_KERNEL(factored_update_corrected, factored_update<Corrected>, FactoredArgs)
REVMOE_KERNEL(vector_squares_plain, vector_squares<Plain>, FactoredArgs)
REVMOE_KERNEL(vector_squares_rounded, vector_squares<Rounded>, FactoredArgs)
REVMOE_KERNEL(vector_squares_corrected, vector_squares<Corrected>, FactoredArgs)
REVMOE_KERNEL(vector_update_plain, vector_update<Plain>, FactoredArgs)
REVMOE_KERNEL(vector_update_rounded, vector_update<Rounded>, FactoredArgs)
REVMOE_KERNEL(vector_update_corrected, vector_update<Corrected>, FactoredArgs)

}  // namespace revmoe::kernels
