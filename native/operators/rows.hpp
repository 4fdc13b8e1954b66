// Tensors of one to three dimensions as rows (native/kernels/rows.h), for the operators that take them.
#pragma once
#include <ATen/ATen.h>

#include "kernels/rows.h"

namespace revmoe {

/** The rows of a float32 or bfloat16 tensor on this device, whose elements of a row lie side by side. */
kernels::RowsArgs rows_of(const at::Tensor& x, c10::Device device);

/** The tensor itself where its rows can be read as they lie, else a dense copy. */
at::Tensor with_rows(const at::Tensor& x);

/** The sum of dense float32 rows [R, C], always in the same order: [C]. */
at::Tensor sum_of_rows(at::Tensor x);

}  // namespace revmoe
