// Sums of rows.
#include "operators/rows.hpp"

#include "operators/launch.hpp"

namespace revmoe {

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
