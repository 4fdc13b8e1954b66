// What the experts of a layer compute between their two products, by name. `both` has the rows of the first product:
// gate and up, as halves side by side or in alternating columns; or only up. The result is multiplied by the gate of
// its row.
//   silu             silu(gate) up
//   gelu_tanh        gelu(gate) up, by its tanh form
//   clamped_swiglu   g sigmoid(alpha g) (u + 1)  with g = min(gate, limit), u = up within -limit and limit
//   relu_squared     relu(up)^2, without a gate
// By the kernels of native/kernels/expert_activation.h, or by ATen's operators if these cannot be used.
#pragma once
#include <ATen/ATen.h>

#include <string>

#include "experts/expert_rows.hpp"
#include "kernels/expert_activation.h"

namespace revmoe {

enum class Activate { kSilu, kGelu, kClamped, kReluSquared };

struct ActivationRow {
  const char* name;
  Activate what;
  bool gated;
};
constexpr ActivationRow kActivations[] = {
    {"silu", Activate::kSilu, true},
    {"gelu_tanh", Activate::kGelu, true},
    {"clamped_swiglu", Activate::kClamped, true},
    {"relu_squared", Activate::kReluSquared, false},
};

class Activation {
 public:
  Activation(const std::string& name, bool interleaved, double limit, double alpha)
      : interleaved_(interleaved), limit_(limit), alpha_(alpha) {
    for (const ActivationRow& row : kActivations) {
      if (name == row.name) row_ = &row;
    }
    TORCH_CHECK(row_ != nullptr, "\"", name, "\" is no activation of experts");
    TORCH_CHECK(row_->gated || !interleaved, name, " has no gate that could be interleaved");
    TORCH_CHECK(limit > 0 && alpha > 0, "limit and alpha must be above zero");
  }

  const char* name() const { return row_->name; }
  bool interleaved() const { return interleaved_; }
  double limit() const { return limit_; }
  double alpha() const { return alpha_; }
  /** Number of columns of `both` for each column of the inner product. */
  int64_t columns() const { return row_->gated ? 2 : 1; }

  /** The inner product times the gates. */
  at::Tensor forward(const Rows& rows, const at::Tensor& both, const at::Tensor& gates_TA) const {
    if (!rows.fused) return value(both).mul_(rows.column(gates_TA, both));
    const at::Tensor inner = at::empty({both.size(0), both.size(1) / columns()}, both.options());
    launch(Rows::of_type(both, kernels::activate_float, kernels::activate_bfloat16),
           args(rows, both, inner, gates_TA, nullptr), rows.all(), both.device());
    return inner;
  }

  /**
   * `d_inner`, the gradient of the result of `forward`, becomes that result, and `both` becomes its own gradient.
   * Returns the gradient of the gates.
   */
  at::Tensor back(const Rows& rows, at::Tensor both, at::Tensor d_inner, const at::Tensor& gates_TA) const {
    if (!rows.fused) return reference_back(rows, both, d_inner, gates_TA);
    const at::Tensor d_gates_TA = at::empty_like(gates_TA);
    launch(Rows::of_type(both, kernels::activate_back_float, kernels::activate_back_bfloat16),
           args(rows, both, d_inner, gates_TA, static_cast<float*>(d_gates_TA.data_ptr())), rows.all(), both.device());
    return d_gates_TA;
  }

 private:
  kernels::ActivationArgs args(const Rows& rows, const at::Tensor& both, const at::Tensor& inner,
                               const at::Tensor& gates_TA, float* d_gates) const {
    check_dense(both, both.scalar_type(), rows.places_TA.device());
    check_dense(inner, both.scalar_type(), both.device());
    check_dense(gates_TA, at::kFloat, both.device());
    TORCH_CHECK(both.dim() == 2 && inner.dim() == 2 && both.size(0) == rows.all() && inner.size(0) == rows.all() &&
                    both.size(1) == columns() * inner.size(1) && gates_TA.numel() == rows.all(),
                "the sizes do not belong together");
    return {both.data_ptr(),
            inner.data_ptr(),
            static_cast<const float*>(gates_TA.data_ptr()),
            d_gates,
            rows.places(),
            inner.size(1),
            static_cast<float>(limit_),
            static_cast<float>(alpha_),
            static_cast<int32_t>(row_->what),
            interleaved_};
  }

  at::Tensor column(const at::Tensor& both, int64_t index) const {
    if (interleaved_) return both.slice(1, index, both.size(1), 2);
    const int64_t width = both.size(1) / columns();
    return both.narrow(1, index * width, width);
  }
  at::Tensor gate_of(const at::Tensor& both) const { return column(both, 0); }
  at::Tensor up_of(const at::Tensor& both) const { return column(both, row_->gated ? 1 : 0); }

  // The gate as it enters the sigmoid, and the other factor.
  at::Tensor gate(const at::Tensor& both) const {
    return is_clamped() ? at::clamp_max(gate_of(both), limit_) : gate_of(both);
  }
  at::Tensor factor(const at::Tensor& both) const {
    return is_clamped() ? at::clamp(up_of(both), -limit_, limit_).add_(1) : up_of(both);
  }
  bool is_clamped() const { return row_->what == Activate::kClamped; }

  // g sigmoid(alpha g) = silu(alpha g) / alpha.
  at::Tensor of_gate(const at::Tensor& gate) const {
    if (row_->what == Activate::kGelu) return at::gelu(gate, "tanh");
    return is_clamped() ? at::silu(gate.mul(alpha_)).mul_(1 / alpha_) : at::silu(gate);
  }

  at::Tensor value(const at::Tensor& both) const {
    if (row_->what == Activate::kReluSquared) return at::relu(both).square_();
    return of_gate(gate(both)).mul_(factor(both));
  }

  at::Tensor reference_back(const Rows& rows, at::Tensor both, at::Tensor d_inner, const at::Tensor& gates_TA) const {
    const at::Tensor inner = value(both);
    const at::Tensor column = rows.column(gates_TA, both);
    const at::Tensor d_gates_TA = rows.of_choices(inner.mul(d_inner).sum(1, false, gates_TA.scalar_type()));
    d_inner.mul_(column);
    if (row_->what == Activate::kReluSquared) {
      both.copy_(at::relu(both).mul_(d_inner).mul_(2));
    } else {
      const at::Tensor g = gate(both), f = factor(both);
      at::Tensor d_up = of_gate(g).mul_(d_inner);
      at::Tensor d_gate = f.mul(d_inner);
      if (row_->what == Activate::kGelu) {
        d_gate = at::gelu_backward(d_gate, g, "tanh");
      } else {
        d_gate = at::silu_backward(d_gate, is_clamped() ? g.mul(alpha_) : g);
      }
      if (is_clamped()) {
        d_gate.masked_fill_(at::ge(gate_of(both), limit_), 0);
        d_up.masked_fill_(at::ge(at::abs(up_of(both)), limit_), 0);
      }
      gate_of(both).copy_(d_gate);
      up_of(both).copy_(d_up);
    }
    d_inner.copy_(inner.mul(column));
    return d_gates_TA;
  }

  const ActivationRow* row_ = nullptr;
  bool interleaved_;
  double limit_;
  double alpha_;
};

}  // namespace revmoe
