// Losses over the vocabulary, and adding products to gradients, each in one pass:
//   revmoe::cross_entropy_   a tile's logits and each row's next token give the rows' figures; gradients replace logits
//   revmoe::divergence_      the same with a teacher's logits, which are only read
//   revmoe::accumulate_      adds a bfloat16 tensor to a float32 one, or copies it if it is the first
// Figures are float64 [rows, 2]: the row's loss, and 1 if its label has the largest logit.
#include <torch/library.h>

#include "kernels/gradient.h"
#include "kernels/loss.h"
#include "operators/launch.hpp"

namespace revmoe {
namespace {

using kernels::LogitArgs;

// `factor` and `cap` as in src/reversible/logits.ts: y = cap tanh(factor z / cap), or factor z with a cap of zero.
LogitArgs logit_args(const at::Tensor& logits, double factor, double cap) {
  check_dense(logits, logits.scalar_type() == at::kFloat ? at::kFloat : at::kBFloat16, logits.device());
  TORCH_CHECK(logits.dim() == 2 && logits.size(1) > 0 && cap >= 0, "expected rows of logits, and no cap below zero");
  return {logits.data_ptr(), static_cast<float>(cap > 0 ? factor / cap : factor), static_cast<float>(cap),
          static_cast<float>(factor)};
}

double* figures_of(const at::Tensor& figures, const at::Tensor& logits) {
  check_dense(figures, at::kDouble, logits.device());
  TORCH_CHECK(figures.numel() == 2 * logits.size(0), "two figures belong to a row");
  return static_cast<double*>(figures.data_ptr());
}

const kernels::Kernel& kernel_for(const at::Tensor& logits, const kernels::Kernel& wide,
                                  const kernels::Kernel& narrow) {
  return logits.scalar_type() == at::kFloat ? wide : narrow;
}

void cross_entropy_(at::Tensor logits, const at::Tensor& labels, at::Tensor figures, double factor, double cap,
                    c10::optional<double> scale) {
  check_dense(labels, at::kLong, logits.device());
  TORCH_CHECK(labels.numel() == logits.size(0), "a label belongs to a row");
  const kernels::CrossEntropyArgs args{logit_args(logits, factor, cap),
                                       static_cast<const int64_t*>(labels.data_ptr()),
                                       figures_of(figures, logits),
                                       logits.size(1),
                                       scale.has_value(),
                                       static_cast<float>(scale.value_or(0))};
  launch(kernel_for(logits, kernels::cross_entropy_float32, kernels::cross_entropy_bfloat16), args, logits.size(0),
         logits.device());
}

void divergence_(at::Tensor logits, double factor, double cap, const at::Tensor& teacher, double teacher_factor,
                 double teacher_cap, at::Tensor figures, double weight, c10::optional<double> scale) {
  check_dense(teacher, logits.scalar_type(), logits.device());
  TORCH_CHECK(teacher.sizes() == logits.sizes(), "the sizes do not belong together");
  const kernels::DivergenceArgs args{logit_args(logits, factor, cap),
                                     logit_args(teacher, teacher_factor, teacher_cap),
                                     figures_of(figures, logits),
                                     logits.size(1),
                                     scale.has_value(),
                                     static_cast<float>(weight),
                                     static_cast<float>(weight * scale.value_or(0))};
  launch(kernel_for(logits, kernels::divergence_float32, kernels::divergence_bfloat16), args, logits.size(0),
         logits.device());
}

void accumulate_(at::Tensor sum, const at::Tensor& x, bool first) {
  check_dense(sum, at::kFloat, x.device());
  check_dense(x, at::kBFloat16, x.device());
  TORCH_CHECK(sum.sizes() == x.sizes(), "the sizes do not belong together");
  const kernels::ProductArgs args{static_cast<float*>(sum.data_ptr()),
                                  static_cast<const kernels::bfloat16*>(x.data_ptr()), x.numel(), nullptr, !first};
  launch(kernels::add_product_bfloat16, args, kernels::chunks_of(x.numel()), x.device());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(revmoe, library) {
  library.def(
      "cross_entropy_(Tensor(a!) logits, Tensor labels, Tensor(b!) figures, float factor, float cap, float? scale) -> "
      "()",
      &cross_entropy_);
  library.def(
      "divergence_(Tensor(a!) logits, float factor, float cap, Tensor teacher, float teacher_factor, float "
      "teacher_cap, Tensor(b!) figures, float weight, float? scale) -> ()",
      &divergence_);
  library.def("accumulate_(Tensor(a!) sum, Tensor x, bool first) -> ()", &accumulate_);
}

}  // namespace revmoe
