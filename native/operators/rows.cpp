// Rows of tensors, and their sums.
#include "operators/rows.hpp"

#include "operators/launch.hpp"

namespace revmoe {
namespace {

bool has_rows(const at::Tensor& x) { return x.dim() > 0 && (x.size(-1) == 1 || x.stride(-1) == 1); }

}  // namespace

kernels::RowsArgs rows_of(const at::Tensor& x, c10::Device device) {
  TORCH_CHECK(x.device() == device && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16),
              "expected float32 or bfloat16 on ", device, ", not ", x.scalar_type(), " on ", x.device());
  TORCH_CHECK(x.dim() <= 3 && has_rows(x), "expected rows of one to three dimensions, each of them dense");
  const int64_t heads = x.dim() == 3 ? x.size(1) : 1;
  const int64_t tokens = x.dim() == 1 ? 1 : x.size(0);
  return {tokens * heads, heads, x.size(-1), x.dim() == 1 ? 0 : x.stride(0), x.dim() == 3 ? x.stride(1) : 0};
}

at::Tensor with_rows(const at::Tensor& x) { return has_rows(x) ? x : x.contiguous(); }

at::Tensor sum_of_rows(at::Tensor x) {
  const int64_t columns = x.size(1);
  while (x.size(0) > 1) {
    const int64_t groups = kernels::groups_of_rows(x.size(0));
    const at::Tensor sums = at::empty({groups, columns}, x.options());
    const kernels::SumRowsArgs args{static_cast<const float*>(x.data_ptr()), static_cast<float*>(sums.data_ptr()),
                                    x.size(0), columns};
    launch(kernels::sum_rows, args, groups * kernels::groups_of_columns(columns), x.device());
    x = sums;
  }
  return x.view({columns});
}

}  // namespace revmoe
