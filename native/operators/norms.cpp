// revmoe::rms_norm, the norm of rows, and revmoe::rotate, which rotates heads by position, with a norm of each before
// it if there is a weight. One pass per direction (native/kernels/norm.h). A graph keeps x unchanged, and a number for
// each normed row. Gradients of the weight are added up in strips of rows, then over strips, always in the same order.
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

#include "kernels/norm.h"
#include "operators/launch.hpp"
#include "operators/rows.hpp"

namespace revmoe {
namespace {

using c10::optional;
using kernels::Kernel;
using kernels::NormArgs;
using kernels::NormGradientArgs;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows of a strip, and most strips; if there would be more, strips are larger.
constexpr int64_t kStripRows = 16;
constexpr int64_t kMostStrips = 8192;

struct How {
  double epsilon;
  bool one_more, neighbours;
  int64_t start;
  at::ScalarType type;
};

int64_t height_of(int64_t rows) { return std::max(kStripRows, (rows + kMostStrips - 1) / kMostStrips); }

bool is_wide(const at::Tensor& x) { return x.scalar_type() == at::kFloat; }

// Arguments, except the results.
NormArgs args_of(const at::Tensor& x, const optional<at::Tensor>& weight, const optional<at::Tensor>& cos,
                 const optional<at::Tensor>& sin, const How& how) {
  NormArgs args{};
  args.of_x = rows_of(x, x.device());
  args.x = x.data_ptr();
  args.plus = how.one_more ? 1.0f : 0.0f;
  args.epsilon = static_cast<float>(how.epsilon);
  if (weight.has_value()) {
    check_dense(*weight, at::kFloat, x.device());
    TORCH_CHECK(weight->numel() == args.of_x.width, "the weight is of other rows");
    args.weight = static_cast<const float*>(weight->data_ptr());
  }
  if (!cos.has_value()) return args;
  TORCH_CHECK(x.dim() == 3 && sin.has_value(), "what turns are heads of tokens, and has two tables");
  for (const at::Tensor& table : {*cos, *sin}) {
    check_dense(table, is_wide(x) ? at::kFloat : cos->scalar_type(), x.device());
    rows_of(table, x.device());
    TORCH_CHECK(table.dim() == 2 && table.size(0) == x.size(0) && table.sizes() == cos->sizes() &&
                    table.size(1) % 2 == 0 && how.start >= 0 && how.start + table.size(1) <= x.size(2),
                "the tables are of other heads");
  }
  args.cos = cos->data_ptr();
  args.sin = sin->data_ptr();
  args.start = how.start;
  args.half = cos->size(1) / 2;
  return args;
}

struct Pair {
  Kernel forward, gradient;
};

// The kernels for these types and for this form of rotation, if there is one.
Pair pair_for(const at::Tensor& x, const optional<at::Tensor>& cos, const How& how) {
  using namespace kernels;
  if (!cos.has_value()) {
    if (!is_wide(x)) return {norm_bfloat16, norm_bfloat16_gradient};
    if (how.type == at::kFloat) return {norm_float, norm_float_gradient};
    return {norm_to_bfloat16, norm_to_bfloat16_gradient};
  }
  if (is_wide(x))
    return how.neighbours ? Pair{heads_float_n, heads_float_n_gradient} : Pair{heads_float, heads_float_gradient};
  if (is_wide(*cos))
    return how.neighbours ? Pair{heads_bfloat16_wide_n, heads_bfloat16_wide_n_gradient}
                          : Pair{heads_bfloat16_wide, heads_bfloat16_wide_gradient};
  return how.neighbours ? Pair{heads_bfloat16_n, heads_bfloat16_n_gradient}
                        : Pair{heads_bfloat16, heads_bfloat16_gradient};
}

// Number of a kernel's items: rows or strips, or groups of them if heads are rotated.
int64_t items_of(int64_t count, bool turns) {
  return turns ? (count + kernels::kSmallParts - 1) / kernels::kSmallParts : count;
}

at::Tensor forward_of(const at::Tensor& x, const optional<at::Tensor>& weight, const optional<at::Tensor>& cos,
                      const optional<at::Tensor>& sin, const How& how, float* scale = nullptr) {
  NormArgs args = args_of(x, weight, cos, sin, how);
  const at::Tensor y = at::empty(x.sizes(), x.options().dtype(how.type));
  args.y = y.data_ptr();
  args.scale = scale;
  launch(pair_for(x, cos, how).forward, args, items_of(args.of_x.rows, cos.has_value()), x.device());
  return y;
}

struct Normed : torch::autograd::Function<Normed> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const optional<at::Tensor>& weight,
                            const optional<at::Tensor>& cos, const optional<at::Tensor>& sin, double epsilon,
                            bool one_more, bool neighbours, int64_t start, at::ScalarType type) {
    const auto or_none = [](const optional<at::Tensor>& t) { return t.has_value() ? *t : at::Tensor(); };
    at::Tensor scale;
    if (weight.has_value()) scale = at::empty({x.numel() / x.size(-1)}, x.options().dtype(at::kFloat));
    const at::Tensor y = forward_of(x, weight, cos, sin, {epsilon, one_more, neighbours, start, type},
                                    scale.defined() ? static_cast<float*>(scale.data_ptr()) : nullptr);
    context->save_for_backward({x, or_none(weight), or_none(cos), or_none(sin), scale});
    auto& data = context->saved_data;
    data["epsilon"] = epsilon;
    data["one_more"] = one_more;
    data["neighbours"] = neighbours;
    data["start"] = start;
    data["type"] = static_cast<int64_t>(type);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& scale = saved[4];
    const auto if_any = [](const at::Tensor& t) { return t.defined() ? optional<at::Tensor>(t) : c10::nullopt; };
    const optional<at::Tensor> weight = if_any(saved[1]), cos = if_any(saved[2]), sin = if_any(saved[3]);
    auto& data = context->saved_data;
    const How how{data["epsilon"].toDouble(), data["one_more"].toBool(), data["neighbours"].toBool(),
                  data["start"].toInt(), static_cast<at::ScalarType>(data["type"].toInt())};
    const at::Tensor dy = with_rows(gradients[0]);
    NormGradientArgs args{args_of(x, weight, cos, sin, how), rows_of(dy, x.device()), dy.data_ptr(), 0, nullptr};
    args.height = height_of(args.forward.of_x.rows);
    const int64_t strips = (args.forward.of_x.rows + args.height - 1) / args.height;
    const at::Tensor dx = at::empty(x.sizes(), x.options());
    args.forward.y = dx.data_ptr();
    at::Tensor sums;
    if (weight.has_value()) {
      sums = at::empty({strips, args.forward.of_x.width}, scale.options());
      args.sums = static_cast<float*>(sums.data_ptr());
      args.forward.scale = static_cast<float*>(scale.data_ptr());
    }
    launch(pair_for(x, cos, how).gradient, args, items_of(strips, cos.has_value()), x.device());
    variable_list made(9);
    made[0] = dx;
    if (weight.has_value() && context->needs_input_grad(1)) made[1] = sum_of_rows(std::move(sums));
    return made;
  }
};

at::Tensor normed(const at::Tensor& x, const optional<at::Tensor>& weight, const optional<at::Tensor>& cos,
                  const optional<at::Tensor>& sin, const How& how) {
  const bool trained = x.requires_grad() || (weight.has_value() && weight->requires_grad());
  if (!at::GradMode::is_enabled() || !trained) return forward_of(x, weight, cos, sin, how);
  return Normed::apply(x, weight, cos, sin, how.epsilon, how.one_more, how.neighbours, how.start, how.type);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon, bool one_more,
                    at::ScalarType dtype) {
  TORCH_CHECK(dtype == at::kBFloat16 || (dtype == at::kFloat && is_wide(x)), "rows of ", x.scalar_type(),
              " are not normed to ", dtype);
  return normed(x, weight, {}, {}, {epsilon, one_more, false, 0, dtype});
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool neighbours, int64_t start,
                  const optional<at::Tensor>& weight, double epsilon, bool one_more) {
  return normed(x, weight, cos, sin, {epsilon, one_more, neighbours, start, x.scalar_type()});
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(revmoe, library) {
  library.def("rms_norm(Tensor x, Tensor weight, float epsilon, bool one_more, ScalarType dtype) -> Tensor", &rms_norm);
  library.def(
      "rotate(Tensor x, Tensor cos, Tensor sin, bool neighbours, int start=0, Tensor? weight=None, float epsilon=0., "
      "bool one_more=False) -> Tensor",
      &rotate);
}

}  // namespace revmoe
