// The update of Adafactor and AdaLomo (src/optim/factored.ts) for independent matrices side by side, in three passes
// over the gradient, which does not change: averages of the squares of rows and columns; the squares of the update; the
// update. After each of the first two, a small kernel completes sums from their parts, always in the same order: sums
// of columns from bands of rows, sums of a matrix from its rows. Sums are in float64. A vector has an average for each
// element, and is one matrix whose rows are chunks.
#pragma once
#include "weight.h"

namespace revmoe::kernels {
namespace {

/** Columns of an item that completes sums of columns. */
constexpr int64_t kFactorColumns = 256;
constexpr float kGradientFloor = 1e-30f;
constexpr double kWeightFloor = 1e-3;

struct FactoredArgs {
  WeightArgs weight;
  const float* g;
  /** Averages of g^2, [matrices, rows] and [matrices, columns]; for a vector, one for each element, and none. */
  float* row;
  float* column;
  /** Sizes of a matrix; rows of a band and number of bands; rows of all matrices. */
  int64_t rows, columns, elements, height, bands, all_rows;
  /** [matrices, bands, columns]; [matrices, rows, 2]: of the update, of the weights. */
  double* column_sums;
  double* squares;
  /**
   * [matrices, columns]: 1 / sqrt(column); [matrices]: mean of row; [matrices, 2]: the factor that decay leaves of a
   * weight, and the factor of the update.
   */
  float* column_factor;
  float* row_mean;
  float* steps;
  /** Decay of the averages, and 1 minus the decay. */
  float keep, fresh;
  float gradient_scale;
  double learning_rate, decay, clip;
  bool relative;

  DEVICE float averaged(float average, float value) const { return average * keep + fresh * value; }
};

#ifdef REVMOE_GPU

/** Most rows of a band. */
constexpr int64_t kMostHeight = 256;
/** Number of rows whose gradients are in registers at the same time. */
constexpr int kRowsAtOnce = 4;

/** Adds the squares of a thread's columns in some rows to the sums of columns and of rows. */
template <int kRows, bool kWhole>
DEVICE void add_squares(const float* g, int64_t count, const FactoredArgs& a, Neighbours<double>& columns,
                        double* rows) {
  Neighbours<float> x[kRows];
  for (int row = 0; row < kRows; row++) x[row] = take<kWhole>(g + row * a.columns, count);
  for (int row = 0; row < kRows; row++) {
    for (int each = 0; each < kNeighbours; each++) {
      const float scaled = x[row].of[each] * a.gradient_scale;
      const double square = kWhole || each < count ? scaled * scaled + kGradientFloor : 0;
      columns.of[each] += square;
      rows[row] += square;
    }
  }
}

/** The same for a warp. Lane l gets the sum of row l kRows / 32. */
template <int kRows>
DEVICE double strip_of_rows(const float* g, int64_t count, bool whole, const FactoredArgs& a,
                            Neighbours<double>& columns) {
  double rows[kRows] = {};
  if (whole) {
    add_squares<kRows, true>(g, count, a, columns, rows);
  } else if (count > 0) {
    add_squares<kRows, false>(g, count, a, columns, rows);
  }
  return warp_sums(rows);
}

/**
 * A warp adds strips of columns from top to bottom, so no warp waits for another; the warps' parts of a row are added
 * at the end.
 */
DEVICE void band_squares(const Team& team, int64_t first, int64_t height, const FactoredArgs& a, double* column_sums) {
  __shared__ double parts[kMostHeight][kParts];
  const int64_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const bool aligned = a.columns % kNeighbours == 0 && is_aligned(a.g) && is_aligned(column_sums);
  for (int64_t strip = warp; strip == warp || strip * 32 * kNeighbours < a.columns; strip += kParts) {
    const int64_t column = (strip * 32 + lane) * kNeighbours, count = a.columns - column;
    const bool whole = aligned && count >= kNeighbours;
    const float* g = a.g + first * a.columns + column;
    Neighbours<double> columns{};
    const auto add = [&](int64_t row, int rows, double sum) {
      double& part = parts[row + lane * rows / 32][warp];
      if (lane * rows % 32 == 0) part = strip == warp ? sum : part + sum;
    };
    int64_t row = 0;
    for (; row + kRowsAtOnce <= height; row += kRowsAtOnce, g += kRowsAtOnce * a.columns)
      add(row, kRowsAtOnce, strip_of_rows<kRowsAtOnce>(g, count, whole, a, columns));
    for (; row < height; row++, g += a.columns) add(row, 1, strip_of_rows<1>(g, count, whole, a, columns));
    if (whole) {
      put<true>(column_sums + column, count, columns);
    } else {
      put<false>(column_sums + column, count, columns);
    }
  }
  team.sync();
  team.each(height, [&](int64_t row) {
    double sum = 0;
    for (int part = 0; part < kParts; part++) sum += parts[row][part];
    a.row[first + row] = a.averaged(a.row[first + row], static_cast<float>(sum / a.columns));
  });
  team.sync();
}

#else

DEVICE void band_squares(const Team& team, int64_t first, int64_t height, const FactoredArgs& a, double* column_sums) {
  team.each(a.columns, [=](int64_t i) { column_sums[i] = 0; });
  for (int64_t row = first; row < first + height; row++) {
    const float* const g = a.g + row * a.columns;
    const float scale = a.gradient_scale;
    const double sum = team.sum<double>(a.columns, [=](int64_t i) {
      const float x = g[i] * scale;
      const double square = x * x + kGradientFloor;
      column_sums[i] += square;
      return square;
    });
    a.row[row] = a.averaged(a.row[row], static_cast<float>(sum / a.columns));
  }
}

#endif

DEVICE void factored_bands(const Team& team, int64_t band, const FactoredArgs& a) {
  const int64_t matrix = band / a.bands, of_matrix = band % a.bands * a.height;
  const int64_t height = a.height < a.rows - of_matrix ? a.height : a.rows - of_matrix;
  band_squares(team, matrix * a.rows + of_matrix, height, a, a.column_sums + band * a.columns);
}

/** Number of items of a matrix: each has some of its columns, and one computes the mean over its rows. */
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
#pragma unroll 16
    for (int64_t band = 0; band < a.bands; band++) sum += sums[band * a.columns];
    const int64_t at = matrix * a.columns + first + i;
    const float average = a.averaged(a.column[at], static_cast<float>(sum / a.rows));
    a.column[at] = average;
    a.column_factor[at] = 1 / square_root(average);
  });
}

/** The update of a row before the learning rate: g / sqrt(row column / mean of row). */
struct RowUpdate {
  Read<float> g, column_factor;
  float row_factor, scale;
  DEVICE RowUpdate(const FactoredArgs& a, int64_t row)
      : g{a.g + row * a.columns},
        column_factor{a.column_factor + row / a.rows * a.columns},
        row_factor(1 / square_root(a.row[row] / a.row_mean[row / a.rows])),
        scale(a.gradient_scale) {}
  DEVICE float operator()(float own, float column) const { return own * scale * column * row_factor; }
  DEVICE const Read<float>& beside() const { return column_factor; }
};

/** The same for a chunk of a vector. */
struct ChunkUpdate {
  Read<float> g, average;
  float scale;
  DEVICE ChunkUpdate(const FactoredArgs& a, int64_t chunk)
      : g{a.g + chunk * kChunkElements}, average{a.row + chunk * kChunkElements}, scale(a.gradient_scale) {}
  DEVICE float operator()(float own, float square) const { return own * scale * (1 / square_root(square)); }
  DEVICE const Read<float>& beside() const { return average; }
};

template <class Weight, class Worker, class Update>
DEVICE void square_sums(const Worker& worker, int64_t item, int64_t first, int64_t n, const FactoredArgs& a,
                        const Update& update) {
  const auto square = [](double own) { return own * own; };
  const double of_update = sum_of(
      worker, n, [=](float g, float beside) { return square(update(g, beside)); }, update.g, update.beside());
  const double of_weights = !a.relative ? 0 : sum_of(worker, n, square, Weight(a.weight, first));
  worker.once([=] {
    a.squares[2 * item] = of_update;
    a.squares[2 * item + 1] = of_weights;
  });
}

DEVICE int64_t row_items(int64_t rows) { return (rows + kParts - 1) / kParts; }

/** f(row, worker) for each row of an item. */
template <class F>
DEVICE void each_row(const Team& team, int64_t item, const FactoredArgs& a, F f) {
  const int64_t first = item * kParts, left = a.all_rows - first;
  team.split(left < kParts ? left : kParts, [=](int64_t part, const auto& worker) { f(first + part, worker); });
}

template <class Weight>
DEVICE void factored_squares(const Team& team, int64_t item, const FactoredArgs& a) {
  each_row(team, item, a, [&](int64_t row, const auto& worker) {
    square_sums<Weight>(worker, row, row * a.columns, a.columns, a, RowUpdate(a, row));
  });
}

template <class Weight>
DEVICE void vector_squares(const Team& team, int64_t chunk, const FactoredArgs& a) {
  const int64_t first = chunk * kChunkElements, n = chunk_size(chunk, a.elements);
  each_of(
      team, n,
      [&](float& average, float g) {
        const float x = g * a.gradient_scale;
        average = a.averaged(average, x * x + kGradientFloor);
      },
      Changed<float>{a.row + first}, Read<float>{a.g + first});
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

template <class Weight, class Worker, class Update>
DEVICE void step(const Worker& worker, int64_t first, int64_t n, const FactoredArgs& a, const float* steps,
                 const Update& update) {
  const float keep = steps[0], rate = steps[1];
  each_of(
      worker, n, [&](float& w, float g, float beside) { w = w * keep - rate * update(g, beside); },
      Weight(a.weight, first), update.g, update.beside());
}

template <class Weight>
DEVICE void factored_update(const Team& team, int64_t item, const FactoredArgs& a) {
  each_row(team, item, a, [&](int64_t row, const auto& worker) {
    step<Weight>(worker, row * a.columns, a.columns, a, a.steps + 2 * (row / a.rows), RowUpdate(a, row));
  });
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
