// What an update does to every element of gradients, weights and state, in one pass on a CPU where ATen's operators take three to thirteen:
//   revmoe::square_sum              sum of squares of float32 values, in float64
//   revmoe::store_weight_          float32 values to a stored weight
//   revmoe::adamw_                  moments and weights of AdamW
//   revmoe::decode_blocks_, revmoe::encode_blocks_   state in 8 bits (src/optim/state/block-quantize.ts)
//   revmoe::factored_squares_, revmoe::scale_matrix_   statistics of rows and columns, and what is divided by them (src/optim/factored.ts)
// Work is shared out by chunks, not by threads, so that results do not depend on how many there are.
#include <ATen/TensorIterator.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include "core/table.hpp"
#include "kernels/update.h"
#include "operators/launch.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define REVMOE_VECTORIZED __attribute__((optimize("O3"), target_clones("avx2", "default")))
#else
#define REVMOE_VECTORIZED
#endif

namespace revmoe {
namespace {

constexpr int64_t kChunk = int64_t{1} << 16;
constexpr int64_t kLanes = 8;
// Elements that share a scale; a chunk holds whole blocks.
constexpr int64_t kBlock = 256;
constexpr int64_t kMostBands = 64;
// Of a block of zeros, so that nothing is divided by zero.
constexpr float kSmallestScale = 1e-38f;

int64_t chunks_of(int64_t elements) { return (elements + kChunk - 1) / kChunk; }

REVMOE_VECTORIZED double chunk_square_sum(const float* x, int64_t count) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    // A product of two float32 is exact in float64.
    for (int64_t lane = 0; lane < kLanes; lane++)
      lanes[lane] += static_cast<double>(x[i + lane]) * static_cast<double>(x[i + lane]);
  }
  double sum = 0;
  for (; i < count; i++) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (const double lane : lanes) sum += lane;
  return sum;
}

REVMOE_VECTORIZED void decode_block(float* x, const uint8_t* q, float scale, const float* code, int64_t count) {
  for (int64_t i = 0; i < count; i++) x[i] = code[q[i]] * scale;
}

REVMOE_VECTORIZED float largest_of(const float* x, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; i++) largest = std::max(largest, std::abs(x[i]));
  return largest;
}

REVMOE_VECTORIZED void shares_of(float* share, const float* x, float scale, int64_t count) {
  for (int64_t i = 0; i < count; i++) share[i] = std::min(std::max(x[i] / scale, -1.0f), 1.0f);
}

// The upper 16 bits of a share say which code it has or that it is one below.
void codes_of(uint8_t* q, const float* share, const int32_t* first, const float* bounds, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    int32_t bits;
    std::memcpy(&bits, share + i, sizeof bits);
    const int32_t code = first[(bits >> 16) + 32768];
    q[i] = static_cast<uint8_t>(code + (share[i] > bounds[code]));
  }
}

REVMOE_VECTORIZED void row_squares(double* columns, float* mean, const float* g, float floor, int64_t count) {
  double lanes[kLanes] = {};
  double sum = 0;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; lane++) {
      const float square = g[i + lane] * g[i + lane] + floor;
      columns[i + lane] += square;
      lanes[lane] += square;
    }
  }
  for (; i < count; i++) {
    const float square = g[i] * g[i] + floor;
    columns[i] += square;
    sum += square;
  }
  for (const double lane : lanes) sum += lane;
  *mean = static_cast<float>(sum / static_cast<double>(count));
}

REVMOE_VECTORIZED void scale_row(float* g, const float* columns, float row, int64_t count) {
  for (int64_t i = 0; i < count; i++) g[i] = g[i] * columns[i] * row;
}

// Calls `work` with the number of every chunk, where it begins and its elements, on all threads (see grouped_experts.cpp on at::parallel_for).
void for_chunks(int64_t elements, const std::function<void(int64_t, int64_t, int64_t)>& work) {
  at::Tensor chunks = at::empty({chunks_of(elements)}, at::kByte);
  const char* const first = static_cast<char*>(chunks.data_ptr());
  at::TensorIterator::nullary_op(chunks).for_each(
      [&](char** data, const int64_t* strides, int64_t count) {
        for (int64_t i = 0; i < count; i++) {
          const int64_t chunk = data[0] + i * strides[0] - first;
          work(chunk, chunk * kChunk, std::min(kChunk, elements - chunk * kChunk));
        }
      },
      /*grain_size=*/1);
}

void check(const at::Tensor& tensor, at::ScalarType type) {
  TORCH_CHECK(tensor.is_cpu() && tensor.is_contiguous() && tensor.scalar_type() == type, "expected a dense tensor of ",
              type, " on the cpu");
}

double square_sum(const at::Tensor& x) {
  check(x, at::kFloat);
  const auto* const values = static_cast<const float*>(x.data_ptr());
  std::vector<double> sums(chunks_of(x.numel()));
  for_chunks(x.numel(), [&](int64_t chunk, int64_t start, int64_t count) {
    sums[chunk] = chunk_square_sum(values + start, count);
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

using kernels::WeightArgs;

// How the weight is stored, from its dtype and whether there is a correction: the kernel of three that knows that.
const kernels::Kernel& kernel_for(const at::Tensor& w, const c10::optional<at::Tensor>& correction,
                                  const kernels::Kernel& plain, const kernels::Kernel& rounded,
                                  const kernels::Kernel& corrected) {
  if (w.scalar_type() == at::kFloat) return plain;
  return correction.has_value() ? corrected : rounded;
}

WeightArgs weight_args(const at::Tensor& w, const c10::optional<at::Tensor>& correction, int64_t seed, int64_t first) {
  check_dense(w, w.scalar_type() == at::kFloat ? at::kFloat : at::kBFloat16, w.device());
  WeightArgs args{w.data_ptr(), nullptr, static_cast<uint64_t>(seed), first};
  if (correction.has_value()) {
    check_dense(*correction, at::kChar, w.device());
    TORCH_CHECK(w.scalar_type() == at::kBFloat16 && correction->numel() == w.numel(),
                "the correction is of another weight");
    args.correction = static_cast<int8_t*>(correction->data_ptr());
  }
  return args;
}

// A dense float32 tensor with as many elements as the weight.
float* floats_like(const at::Tensor& w, const at::Tensor& x) {
  check_dense(x, at::kFloat, w.device());
  TORCH_CHECK(x.numel() == w.numel(), "the sizes do not belong together");
  return static_cast<float*>(x.data_ptr());
}

void store_weight_(at::Tensor w, const c10::optional<at::Tensor>& correction, int64_t seed, int64_t first,
                   const at::Tensor& value) {
  const kernels::StoreArgs args{weight_args(w, correction, seed, first), floats_like(w, value), w.numel()};
  launch(kernel_for(w, correction, kernels::store_plain, kernels::store_rounded, kernels::store_corrected), args,
         kernels::chunks_of(w.numel()), w.device());
}

void adamw_(at::Tensor w, const c10::optional<at::Tensor>& correction, int64_t seed, int64_t first, at::Tensor m,
            at::Tensor v, const at::Tensor& g, double beta1, double beta2, double epsilon, double keep, double rate,
            double scale) {
  const auto narrow = [](double value) { return static_cast<float>(value); };
  const kernels::AdamWArgs args{weight_args(w, correction, seed, first),
                                floats_like(w, m),
                                floats_like(w, v),
                                floats_like(w, g),
                                g.numel(),
                                narrow(beta1),
                                narrow(beta2),
                                narrow(epsilon),
                                narrow(keep),
                                narrow(rate),
                                narrow(scale)};
  launch(kernel_for(w, correction, kernels::adamw_plain, kernels::adamw_rounded, kernels::adamw_corrected), args,
         kernels::chunks_of(g.numel()), w.device());
}

// Calls `work` with every block's number, where it begins and its elements.
void for_blocks(int64_t elements, const std::function<void(int64_t, int64_t, int64_t)>& work) {
  for_chunks(elements, [&](int64_t, int64_t first, int64_t count) {
    for (int64_t start = first; start < first + count; start += kBlock)
      work(start / kBlock, start, std::min(kBlock, first + count - start));
  });
}

void check_blocks(const at::Tensor& x, const at::Tensor& q, const at::Tensor& scale) {
  check(x, at::kFloat);
  check(q, at::kByte);
  check(scale, at::kFloat);
  TORCH_CHECK(x.numel() == q.numel() && scale.numel() == (x.numel() + kBlock - 1) / kBlock,
              "the sizes do not belong together");
}

void decode_blocks_(at::Tensor into, const at::Tensor& q, const at::Tensor& scale, const at::Tensor& code) {
  check_blocks(into, q, scale);
  auto* const x = static_cast<float*>(into.data_ptr());
  const auto* const codes = static_cast<const uint8_t*>(q.data_ptr());
  const auto* const scales = static_cast<const float*>(scale.data_ptr());
  const auto* const values = static_cast<const float*>(code.data_ptr());
  for_blocks(into.numel(), [&](int64_t block, int64_t start, int64_t count) {
    decode_block(x + start, codes + start, scales[block], values, count);
  });
}

void encode_blocks_(at::Tensor q, at::Tensor scale, const at::Tensor& x, const at::Tensor& first,
                    const at::Tensor& bounds) {
  check_blocks(x, q, scale);
  const auto* const values = static_cast<const float*>(x.data_ptr());
  auto* const codes = static_cast<uint8_t*>(q.data_ptr());
  auto* const scales = static_cast<float*>(scale.data_ptr());
  const auto* const firsts = static_cast<const int32_t*>(first.data_ptr());
  const auto* const edges = static_cast<const float*>(bounds.data_ptr());
  for_blocks(x.numel(), [&](int64_t block, int64_t start, int64_t count) {
    float share[kBlock];
    scales[block] = largest_of(values + start, count);
    shares_of(share, values + start, std::max(scales[block], kSmallestScale), count);
    codes_of(codes + start, share, firsts, edges, count);
  });
}

void check_matrix(const at::Tensor& rows, const at::Tensor& columns, const at::Tensor& g) {
  for (const at::Tensor& each : {rows, columns, g}) check(each, at::kFloat);
  TORCH_CHECK(g.dim() == 2 && rows.numel() == g.size(0) && columns.numel() == g.size(1),
              "the sizes do not belong together");
}

// Bands of whole rows, each with sums of its own: as many rows as a chunk has room for, or more, so that the sums stay few.
struct Bands {
  int64_t rows, height, count;

  explicit Bands(const at::Tensor& g)
      : rows(g.size(0)),
        height(std::max((rows + kMostBands - 1) / kMostBands, kChunk / std::max<int64_t>(1, g.size(1))) + 1),
        count((rows + height - 1) / height) {}

  // Calls `work` with the number of every band, its first row and the one behind its last.
  void for_each(const std::function<void(int64_t, int64_t, int64_t)>& work) const {
    for_chunks(count * kChunk,
               [&](int64_t band, int64_t, int64_t) { work(band, band * height, std::min(rows, (band + 1) * height)); });
  }
};

// Means over the columns, and sums over the rows, of g^2 + floor.
void factored_squares_(at::Tensor row_means, at::Tensor column_sums, const at::Tensor& g, double floor) {
  check_matrix(row_means, column_sums, g);
  const int64_t columns = g.size(1);
  const Bands bands(g);
  const auto* const values = static_cast<const float*>(g.data_ptr());
  auto* const means = static_cast<float*>(row_means.data_ptr());
  std::vector<double> sums(std::max<int64_t>(1, bands.count) * columns);
  bands.for_each([&](int64_t band, int64_t row, int64_t end) {
    for (; row < end; row++)
      row_squares(&sums[band * columns], means + row, values + row * columns, static_cast<float>(floor), columns);
  });
  auto* const totals = static_cast<float*>(column_sums.data_ptr());
  for (int64_t band = 1; band < bands.count; band++) {
    for (int64_t i = 0; i < columns; i++) sums[i] += sums[band * columns + i];
  }
  for (int64_t i = 0; i < columns; i++) totals[i] = static_cast<float>(sums[i]);
}

// g_ij *= columns_j * rows_i; the sum of the squares of what comes out.
double scale_matrix_(at::Tensor g, const at::Tensor& rows, const at::Tensor& columns) {
  check_matrix(rows, columns, g);
  const int64_t width = g.size(1);
  auto* const values = static_cast<float*>(g.data_ptr());
  const auto* const by_row = static_cast<const float*>(rows.data_ptr());
  const auto* const by_column = static_cast<const float*>(columns.data_ptr());
  std::vector<double> sums(g.size(0));
  Bands(g).for_each([&](int64_t, int64_t row, int64_t end) {
    for (; row < end; row++) {
      scale_row(values + row * width, by_column, by_row[row], width);
      sums[row] = chunk_square_sum(values + row * width, width);
    }
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(revmoe, library) {
  library.def("square_sum(Tensor x) -> float", &square_sum);
  library.def("store_weight_(Tensor(a!) w, Tensor(b!)? correction, int seed, int first, Tensor value) -> ()",
              &store_weight_);
  library.def(
      "adamw_(Tensor(a!) w, Tensor(b!)? correction, int seed, int first, Tensor(c!) m, Tensor(d!) v, Tensor g, float "
      "beta1, float "
      "beta2, float epsilon, float keep, "
      "float rate, float scale) -> ()",
      &adamw_);
  library.def("factored_squares_(Tensor(a!) row_means, Tensor(b!) column_sums, Tensor g, float floor) -> ()",
              &factored_squares_);
  library.def("scale_matrix_(Tensor(a!) g, Tensor rows, Tensor columns) -> float", &scale_matrix_);
  library.def("decode_blocks_(Tensor(a!) into, Tensor q, Tensor scale, Tensor code) -> ()", &decode_blocks_);
  library.def("encode_blocks_(Tensor(a!) q, Tensor(b!) scale, Tensor x, Tensor first, Tensor bounds) -> ()",
              &encode_blocks_);
}

}  // namespace revmoe
