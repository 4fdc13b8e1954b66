// Two passes over every element of a step's gradients and weights, each in one read on a CPU, where ATen's operators take three and five:
// revmoe::square_sum of a float32 tensor, squares and sums in float64; and revmoe::round_stochastically_ of float32 values to bfloat16.
// Work is shared out by chunks, not by threads, so that results do not depend on how many there are.
#include <ATen/TensorIterator.h>
#include <torch/library.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <vector>

#include "table.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define REVMOE_VECTORIZED __attribute__((optimize("O3"), target_clones("avx2", "default")))
#else
#define REVMOE_VECTORIZED
#endif

namespace revmoe {
namespace {

constexpr int64_t kChunk = int64_t{1} << 16;
constexpr int64_t kLanes = 8;

int64_t chunks_of(int64_t elements) { return (elements + kChunk - 1) / kChunk; }

REVMOE_VECTORIZED double chunk_square_sum(const float* x, int64_t count) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    // A product of two float32 is exact in float64.
    for (int64_t lane = 0; lane < kLanes; lane++) lanes[lane] += static_cast<double>(x[i + lane]) * static_cast<double>(x[i + lane]);
  }
  double sum = 0;
  for (; i < count; i++) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (const double lane : lanes) sum += lane;
  return sum;
}

REVMOE_VECTORIZED void chunk_round(const uint32_t* value, const uint32_t* noise, uint32_t mask, uint16_t* into, int64_t count) {
  for (int64_t i = 0; i < count; i++) into[i] = static_cast<uint16_t>((value[i] + (noise[i] ^ mask)) >> 16);
}

// Calls `work` with the number of every chunk, where it begins and its elements, on all threads (see grouped_swiglu.cpp on at::parallel_for).
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
  TORCH_CHECK(tensor.is_cpu() && tensor.is_contiguous() && tensor.scalar_type() == type, "expected a dense tensor of ", type, " on the cpu");
}

double square_sum(const at::Tensor& x) {
  check(x, at::kFloat);
  const auto* const values = static_cast<const float*>(x.data_ptr());
  std::vector<double> sums(chunks_of(x.numel()));
  for_chunks(x.numel(), [&](int64_t chunk, int64_t start, int64_t count) { sums[chunk] = chunk_square_sum(values + start, count); });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

// bits(into) = (bits(value) + (noise ^ mask)) >> 16, with 16 random bits in each of noise.
void round_stochastically_(at::Tensor into, const at::Tensor& value, const at::Tensor& noise, int64_t mask) {
  check(into, at::kBFloat16);
  check(value, at::kFloat);
  check(noise, at::kInt);
  TORCH_CHECK(value.numel() == into.numel() && value.numel() <= noise.numel(), "the sizes do not belong together");
  const auto* const values = static_cast<const uint32_t*>(value.data_ptr());
  const auto* const bits = static_cast<const uint32_t*>(noise.data_ptr());
  auto* const rounded = static_cast<uint16_t*>(into.data_ptr());
  for_chunks(value.numel(), [&](int64_t, int64_t start, int64_t count) {
    chunk_round(values + start, bits + start, static_cast<uint32_t>(mask), rounded + start, count);
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(revmoe, library) {
  library.def("square_sum(Tensor x) -> float", &square_sum);
  library.def("round_stochastically_(Tensor(a!) into, Tensor value, Tensor noise, int mask) -> ()", &round_stochastically_);
}

}  // namespace revmoe
