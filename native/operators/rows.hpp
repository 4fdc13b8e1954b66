// Tensors of one to three dimensions as rows (native/kernels/rows.h), for the operators that take them.
#pragma once
#include <ATen/ATen.h>

#include "kernels/rows.h"

namespace revmoe {

/** Whether the elements of a row lie side by side. */
inline bool has_rows(const at::Tensor& x) { return x.dim() > 0 && (x.size(-1) == 1 || x.stride(-1) == 1); }

/** The tensor itself if its rows are dense, else a dense copy. */
inline at::Tensor with_rows(const at::Tensor& x) { return has_rows(x) ? x : x.contiguous(); }

/** The rows of a float32 or bfloat16 tensor on this device. */
inline kernels::RowsArgs rows_of(const at::Tensor& x, c10::Device device) {
  TORCH_CHECK(x.device() == device && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16),
              "expected float32 or bfloat16 on ", device, ", not ", x.scalar_type(), " on ", x.device());
  TORCH_CHECK(x.dim() <= 3 && has_rows(x), "expected rows of one to three dimensions, each of them dense");
  const int64_t heads = x.dim() == 3 ? x.size(1) : 1;
  const int64_t tokens = x.dim() == 1 ? 1 : x.size(0);
  return {tokens * heads, heads, x.size(-1), x.dim() == 1 ? 0 : x.stride(0), x.dim() == 3 ? x.stride(1) : 0};
}

/** The sum of dense float32 rows [R, C], always in the same order: [C]. */
at::Tensor sum_of_rows(at::Tensor x);

}  // namespace revmoe
