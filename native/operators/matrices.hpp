// Products of float32 matrices at any addresses, many of a kind at once: on a CPU one call of the BLAS for each, on a
// GPU one for all.
#pragma once
#include <ATen/ATen.h>

namespace revmoe {

// float32 matrices, `step` elements apart, with rows that are `row_step` elements apart.
struct Matrices {
  float* at;
  int64_t step, rows, columns, row_step;
  bool transposed = false;

  Matrices t() const { return {at, step, rows, columns, row_step, !transposed}; }
  at::Tensor tensor(int64_t count, c10::Device device) const {
    const auto options = at::TensorOptions(at::kFloat).device(device);
    if (count == 0) {
      const at::Tensor one = at::from_blob(at, {rows, columns}, {row_step, 1}, options);
      return transposed ? one.t() : one;
    }
    const at::Tensor all = at::from_blob(at, {count, rows, columns}, {step, row_step, 1}, options);
    return transposed ? all.transpose(1, 2) : all;
  }
  Matrices of(int64_t i) const { return {at + i * step, step, rows, columns, row_step, transposed}; }
};

enum class Sum { kNone, kAdd };

// `count` products, written or added to `into`.
inline void multiply(int64_t count, const Matrices& into, const Matrices& a, const Matrices& b, Sum sum,
                     c10::Device device) {
  if (!device.is_cpu()) {
    at::Tensor out = into.tensor(count, device);
    const at::Tensor left = a.tensor(count, device), right = b.tensor(count, device);
    if (sum == Sum::kAdd) {
      at::baddbmm_out(out, out, left, right);
    } else {
      at::bmm_out(out, left, right);
    }
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    at::Tensor out = into.of(i).tensor(0, device);
    const at::Tensor left = a.of(i).tensor(0, device), right = b.of(i).tensor(0, device);
    if (sum == Sum::kAdd) {
      at::addmm_out(out, out, left, right);
    } else {
      at::mm_out(out, left, right);
    }
  }
}

}  // namespace revmoe
