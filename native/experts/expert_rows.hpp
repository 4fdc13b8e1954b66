// Tokens and the rows of their experts, by the kernels of native/kernels/expert_rows.h, or by ATen's operators if these
// cannot be used.
#pragma once
#include <ATen/ATen.h>

#include <tuple>
#include <vector>

#include "kernels/expert_rows.h"
#include "operators/launch.hpp"

namespace revmoe {

// Where the rows of each token are, how many rows each expert has, and whether kernels process them.
class Rows {
 public:
  Rows(at::Tensor places_TA, at::Tensor counts, c10::optional<at::Tensor> known, bool fused)
      : places_TA(std::move(places_TA)), counts(std::move(counts)), known(std::move(known)), fused(fused) {}

  const at::Tensor places_TA;
  const at::Tensor counts;
  // The counts in main memory, if they are known there.
  const c10::optional<at::Tensor> known;
  const bool fused;

  int64_t all() const { return places_TA.numel(); }

  // Number of rows of each expert. If the counts are not known, this waits for the GPU.
  at::IntArrayRef by_expert() const {
    if (!host_.defined()) host_ = known.value_or(counts).to(at::kCPU, at::kLong).contiguous();
    return {static_cast<const int64_t*>(host_.data_ptr()), static_cast<size_t>(host_.numel())};
  }

  // Copies each row from its token, into `rows`.
  void gather(const at::Tensor& x_TD, const at::Tensor& rows) const {
    if (fused) {
      launch(of_type(x_TD, kernels::gather_rows_float, kernels::gather_rows_bfloat16), args(x_TD, rows), x_TD.size(0),
             x_TD.device());
      return;
    }
    at::Tensor into = rows;
    for (int64_t choice = 0; choice < places_TA.size(1); choice++)
      into.index_copy_(0, places_TA.select(1, choice), x_TD);
  }

  // For each token the sum of its rows.
  at::Tensor sums(const at::Tensor& rows) const {
    const int64_t tokens = places_TA.size(0);
    if (!fused) return rows.index_select(0, places_TA.reshape({-1})).view({tokens, -1, rows.size(1)}).sum(1);
    const at::Tensor y_TD = at::empty({tokens, rows.size(1)}, rows.options());
    launch(of_type(rows, kernels::combine_rows_float, kernels::combine_rows_bfloat16), args(y_TD, rows), tokens,
           rows.device());
    return y_TD;
  }

  // The number of each choice as a column, in the order of rows and in the type of x.
  at::Tensor column(const at::Tensor& of_choices, const at::Tensor& x) const {
    at::Tensor by_row = at::empty({all()}, of_choices.options());
    by_row.index_copy_(0, places_TA.reshape({-1}), of_choices.reshape({-1}));
    return by_row.to(x.scalar_type()).unsqueeze_(1);
  }

  // The numbers of choices, from a number for each row.
  at::Tensor of_choices(const at::Tensor& by_row) const {
    return by_row.index_select(0, places_TA.reshape({-1})).view(places_TA.sizes());
  }

  static const kernels::Kernel& of_type(const at::Tensor& x, const kernels::Kernel& for_float,
                                        const kernels::Kernel& for_bfloat16) {
    return x.scalar_type() == at::kFloat ? for_float : for_bfloat16;
  }

  const int64_t* places() const { return static_cast<const int64_t*>(places_TA.data_ptr()); }

 private:
  kernels::ExpertRowsArgs args(const at::Tensor& of_tokens, const at::Tensor& rows) const {
    check_dense(of_tokens, rows.scalar_type(), places_TA.device());
    check_dense(rows, rows.scalar_type(), places_TA.device());
    TORCH_CHECK(of_tokens.dim() == 2 && rows.dim() == 2 && of_tokens.size(0) == places_TA.size(0) &&
                    rows.size(0) == all() && of_tokens.size(1) == rows.size(1),
                "rows and tokens do not belong together");
    return {of_tokens.data_ptr(), rows.data_ptr(), places(), places_TA.size(1), rows.size(1)};
  }

  mutable at::Tensor host_;
};

}  // namespace revmoe
