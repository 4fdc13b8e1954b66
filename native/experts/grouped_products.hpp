// Products of all experts of a layer in one kernel of libtorch's, for bfloat16 rows on CUDA, where a single product
// costs as much as many of these need together. x is sorted by expert; weights lie side by side, and those of another
// type are copied together. If this is not possible, nothing is done and the caller is told.
#pragma once
#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "core/table.hpp"
#include "experts/expert_rows.hpp"
#include "kernels/gradient.h"

/** Whether this libtorch has that kernel. */
#define REVMOE_GROUPED_KERNEL (REVMOE_TORCH >= 210)

namespace revmoe {

// The matrices as one tensor if they lie side by side, as in a stack; else undefined.
inline at::Tensor stack_of(at::TensorList weights) {
  if (weights.empty() || !weights[0].defined()) return {};
  const at::Tensor first = weights[0].detach();
  for (size_t i = 0; i < weights.size(); i++) {
    const at::Tensor& each = weights[i];
    const int64_t offset = first.storage_offset() + static_cast<int64_t>(i) * first.numel();
    const bool follows = each.defined() && each.sizes() == first.sizes() && each.is_contiguous() &&
                         each.scalar_type() == first.scalar_type() && each.storage().is_alias_of(first.storage()) &&
                         each.storage_offset() == offset;
    if (!follows) return {};
  }
  return first.as_strided({static_cast<int64_t>(weights.size()), first.size(0), first.size(1)},
                          {first.numel(), first.size(1), 1});
}

// sums_e = or += made_e for each expert with rows; for one without, = or += 0.
inline void take_products(const at::Tensor& sums, const at::Tensor& made, const at::Tensor& counts, bool add) {
  const c10::Device device = sums.device();
  check_dense(sums, at::kFloat, device);
  check_dense(made, at::kBFloat16, device);
  check_dense(counts, at::kLong, device);
  TORCH_CHECK(sums.dim() == 3 && made.sizes() == sums.sizes() && counts.numel() == sums.size(0),
              "sums, products and counts do not belong together");
  const int64_t elements = sums.size(1) * sums.size(2);
  const kernels::ProductArgs args{static_cast<float*>(sums.data_ptr()),
                                  static_cast<const kernels::bfloat16*>(made.data_ptr()), elements,
                                  static_cast<const int64_t*>(counts.data_ptr()), add};
  launch(kernels::add_product_bfloat16, args, sums.size(0) * kernels::chunks_of(elements), device);
}

// Number of elements of weights' gradients that the grouped kernel makes at a time, in the type of the factors.
constexpr int64_t kGroupedElements = int64_t{1} << 26;

// Products of all experts in one kernel, for bfloat16 rows on CUDA.
class Grouped {
 public:
  Grouped(const at::Tensor& x, const Rows& rows) : rows_(rows) {
#if REVMOE_GROUPED_KERNEL
    if (x.is_cuda() && x.scalar_type() == at::kBFloat16 && x.size(0) > 0) ends_ = rows.counts.cumsum(0, at::kInt);
#endif
  }

  // Whether products of x with the weights can be made in one kernel.
  bool takes(const at::Tensor& x, at::TensorList weights) const {
    if (!fits(x)) return false;
    const at::Tensor stack = stack_of(weights);
    return stack.defined() && aligned(stack);
  }

  // x_e W_e' of every expert, or x_e W_e.
  at::Tensor products(const at::Tensor& x, at::TensorList weights, bool transposed) const {
    const at::Tensor stack = stack_of(weights).to(x.scalar_type());
    return product(x, transposed ? stack.transpose(1, 2) : stack, ends_);
  }

  // sums_e = or += dy_e' x_e for the experts e from `first` on; false if they cannot be made in one kernel.
  bool add_gradients(at::TensorList sums, const at::Tensor& dy, const at::Tensor& x, int64_t first, bool add) const {
    if (!fits(x) || !fits(dy)) return false;
    const at::Tensor stack = stack_of(sums);
    if (!stack.defined() || !aligned(stack)) return false;
    const at::IntArrayRef counts = rows_.by_expert();
    const int64_t most = std::max<int64_t>(1, kGroupedElements / stack[0].numel());
    int64_t row = 0;
    for (int64_t e = 0; e < first; e++) row += counts[e];
    for (int64_t start = 0; start < stack.size(0); start += most) {
      const int64_t count = std::min(most, stack.size(0) - start);
      int64_t length = 0;
      for (int64_t i = 0; i < count; i++) length += counts[first + start + i];
      if (length > 0) {
        const at::Tensor ends = ends_.narrow(0, first + start, count).sub(row);
        const at::Tensor made = product(dy.narrow(0, row, length).t(), x.narrow(0, row, length), ends);
        take(stack.narrow(0, start, count), made, rows_.counts.narrow(0, first + start, count), add);
      } else if (!add) {
        stack.narrow(0, start, count).zero_();
      }
      row += length;
    }
    return true;
  }

 private:
  // The kernel needs rows that begin at multiples of 16 bytes.
  static bool aligned(const at::Tensor& stack) { return stack.size(1) % 8 == 0 && stack.size(2) % 8 == 0; }
  bool fits(const at::Tensor& x) const {
    return ends_.defined() && x.stride(1) == 1 && x.stride(0) % 8 == 0 && x.size(1) % 8 == 0;
  }

  // Ignores what the products' kernel leaves for an expert without rows.
  void take(at::Tensor sums, const at::Tensor& made, const at::Tensor& counts, bool add) const {
    if (rows_.fused && sums.scalar_type() == at::kFloat) return take_products(sums, made, counts, add);
    const at::IntArrayRef known = rows_.by_expert();
    const int64_t first = counts.storage_offset() - rows_.counts.storage_offset();
    for (int64_t i = 0; i < made.size(0); i++) {
      if (known[first + i] == 0) made.select(0, i).zero_();
    }
    add ? sums.add_(made) : sums.copy_(made);
  }

  static at::Tensor product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& ends) {
#if REVMOE_GROUPED_KERNEL
    return at::_grouped_mm(a, b, ends);
#else
    return {};
#endif
  }

  const Rows& rows_;
  at::Tensor ends_;
};

}  // namespace revmoe
