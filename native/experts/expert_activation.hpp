// What the experts of a layer compute between their two products, by name. `both` holds the rows of the first: of gate and up, side by side
// as halves or column by column in turn; or of up alone.
//   silu             silu(gate) up
//   gelu_tanh        gelu(gate) up, by its tanh form
//   clamped_swiglu   g sigmoid(alpha g) (u + 1)  with g = min(gate, limit), u = up within -limit and limit
//   relu_squared     relu(up)^2, without a gate
#pragma once
#include <ATen/ATen.h>

#include <string>

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
  /** Columns of `both` for each of the inner product. */
  int64_t columns() const { return row_->gated ? 2 : 1; }

  /**
   * The inner product, in the place of the gate where that leaves it in whole rows; nothing else of `both` is of use afterwards. What is
   * clamped is computed as with a graph: in place, the ends of rows would be left to other instructions, with other bits.
   */
  at::Tensor in_place(const at::Tensor& both) const {
    if (row_->what == Activate::kClamped) {
      const at::Tensor made = of_gate(both);
      inner(made, made, both);
      return made;
    }
    at::Tensor gate = gate_of(both);
    act_(gate);
    gate.mul_(row_->gated ? up_of(both) : gate);
    return interleaved_ ? gate.contiguous() : gate;
  }

  /** What becomes of the gate, apart from up. */
  at::Tensor of_gate(const at::Tensor& both) const {
    const at::Tensor gate = gate_of(both);
    if (row_->what == Activate::kSilu) return at::silu(gate);
    if (row_->what == Activate::kGelu) return at::gelu(gate, "tanh");
    if (row_->what == Activate::kReluSquared) return at::relu(gate);
    at::Tensor scaled = at::clamp_max(gate, limit_).mul_(alpha_);
    return at::silu_(scaled).mul_(1 / alpha_);
  }

  /** The inner product in `into`, which may be `of_gate` itself. */
  void inner(at::Tensor into, const at::Tensor& of_gate, const at::Tensor& both) const {
    if (row_->what == Activate::kReluSquared) {
      at::mul_out(into, of_gate, of_gate);
    } else if (row_->what != Activate::kClamped) {
      at::mul_out(into, of_gate, up_of(both));
    } else if (into.is_same(of_gate)) {
      into.mul_(at::clamp(up_of(both), -limit_, limit_).add_(1));
    } else {
      at::clamp_out(into, up_of(both), -limit_, limit_);
      into.add_(1).mul_(of_gate);
    }
  }

  /** From the gradient of the inner product to those of gate and up, in their own places. Writes over all three. */
  void gradient(const at::Tensor& both, at::Tensor of_gate, at::Tensor d_inner) const {
    at::Tensor gate = gate_of(both);
    of_gate.mul_(d_inner);
    if (row_->what == Activate::kReluSquared) {
      gate.copy_(of_gate.mul_(2));
      return;
    }
    at::Tensor up = up_of(both);
    if (row_->what == Activate::kClamped) {
      clamped_gradient(gate, up, of_gate, d_inner);
      return;
    }
    d_inner.mul_(up);
    if (row_->what == Activate::kSilu) at::silu_backward_out(gate, d_inner, gate);
    if (row_->what == Activate::kGelu) at::gelu_backward_out(gate, d_inner, gate, "tanh");
    up.copy_(of_gate);
  }

 private:
  at::Tensor column(const at::Tensor& both, int64_t index) const {
    if (interleaved_) return both.slice(1, index, both.size(1), 2);
    const int64_t width = both.size(1) / columns();
    return both.narrow(1, index * width, width);
  }
  at::Tensor gate_of(const at::Tensor& both) const { return column(both, 0); }
  at::Tensor up_of(const at::Tensor& both) const { return column(both, 1); }

  void act_(at::Tensor gate) const {
    if (row_->what == Activate::kSilu) at::silu_(gate);
    if (row_->what == Activate::kGelu) at::gelu_(gate, "tanh");
    if (row_->what == Activate::kReluSquared) at::relu_(gate);
  }

  // g sigmoid(alpha g) = silu(alpha g) / alpha. What was clamped has no gradient, and neither has what lies at the limit.
  void clamped_gradient(at::Tensor gate, at::Tensor up, at::Tensor d_up, at::Tensor d_inner) const {
    at::Tensor beyond = at::ge(up, limit_);
    d_up.masked_fill_(beyond, 0);
    at::le_out(beyond, up, -limit_);
    d_up.masked_fill_(beyond, 0);
    d_inner.mul_(up.clamp_(-limit_, limit_).add_(1));
    up.copy_(d_up);
    at::ge_out(beyond, gate, limit_);
    gate.clamp_max_(limit_).mul_(alpha_);
    at::silu_backward_out(gate, d_inner, gate);
    gate.masked_fill_(beyond, 0);
  }

  const ActivationRow* row_ = nullptr;
  bool interleaved_;
  double limit_;
  double alpha_;
};

}  // namespace revmoe
