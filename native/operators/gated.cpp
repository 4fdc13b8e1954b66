// revmoe::gated, f(gate) x with f silu or sigmoid: one pass per direction (native/kernels/gated.h). A graph keeps gate
// and x unchanged.
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/gated.h"
#include "operators/launch.hpp"
#include "operators/rows.hpp"

namespace revmoe {
namespace {

using kernels::GatedArgs;
using kernels::GatedGradientArgs;
using kernels::Kernel;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Pair {
  Kernel forward, gradient;
};

Pair pair_for(const at::Tensor& x, const std::string& function) {
  using namespace kernels;
  const bool wide = x.scalar_type() == at::kFloat;
  if (function == "silu")
    return wide ? Pair{silu_gated_float, silu_gated_float_gradient}
                : Pair{silu_gated_bfloat16, silu_gated_bfloat16_gradient};
  TORCH_CHECK(function == "sigmoid", "\"", function, "\" is no function of a gate");
  return wide ? Pair{sigmoid_gated_float, sigmoid_gated_float_gradient}
              : Pair{sigmoid_gated_bfloat16, sigmoid_gated_bfloat16_gradient};
}

// Arguments, except the results.
GatedArgs args_of(const at::Tensor& gate, const at::Tensor& x) {
  TORCH_CHECK(gate.sizes() == x.sizes() && gate.scalar_type() == x.scalar_type(), "the gate is of something else");
  return {rows_of(gate, x.device()), rows_of(x, x.device()), gate.data_ptr(), x.data_ptr(), nullptr};
}

int64_t items_of(const GatedArgs& args) { return (args.of_x.rows + kernels::kParts - 1) / kernels::kParts; }

at::Tensor forward_of(const at::Tensor& gate, const at::Tensor& x, const std::string& function) {
  GatedArgs args = args_of(gate, x);
  const at::Tensor y = at::empty(x.sizes(), x.options());
  args.y = y.data_ptr();
  launch(pair_for(x, function).forward, args, items_of(args), x.device());
  return y;
}

struct Gated : torch::autograd::Function<Gated> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& x,
                            std::string function) {
    const at::Tensor y = forward_of(gate, x, function);
    context->save_for_backward({gate, x});
    context->saved_data["function"] = std::move(function);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &gate = saved[0], &x = saved[1];
    const at::Tensor dy = with_rows(gradients[0]);
    const at::Tensor d_gate = at::empty(x.sizes(), x.options()), dx = at::empty(x.sizes(), x.options());
    GatedGradientArgs args{args_of(gate, x), rows_of(dy, x.device()), dy.data_ptr(), d_gate.data_ptr()};
    args.forward.y = dx.data_ptr();
    launch(pair_for(x, context->saved_data["function"].toStringRef()).gradient, args, items_of(args.forward),
           x.device());
    return {d_gate, dx, at::Tensor()};
  }
};

at::Tensor gated(const at::Tensor& gate, const at::Tensor& x, std::string function) {
  if (!at::GradMode::is_enabled() || !(gate.requires_grad() || x.requires_grad())) return forward_of(gate, x, function);
  return Gated::apply(gate, x, std::move(function));
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(revmoe, library) { library.def("gated(Tensor gate, Tensor x, str function) -> Tensor", &gated); }

}  // namespace revmoe
