// y = f(gate) x and its gradients, computed in float32 and rounded once: f is silu in a gated unit
// (src/layers/dense.ts), or sigmoid around attention. An item is as many rows as a team has parts.
#pragma once
#include "rows.h"

namespace revmoe::kernels {
namespace {

struct GatedArgs {
  RowsArgs of_gate, of_x;
  const void* gate;
  const void* x;
  /** Dense, like all that is written. */
  void* y;

  DEVICE bool even() const { return of_gate.even(gate) && of_x.even(x) && aligned(y) && of_x.width % kTogether == 0; }
};

struct GatedGradientArgs {
  /** `y` is the gradient of x. */
  GatedArgs forward;
  RowsArgs of_dy;
  const void* dy;
  void* d_gate;
};

struct Gate {
  /** f and its slope. */
  float value, slope;
};

DEVICE float logistic(float x) { return 1 / (1 + exponential(-x)); }

struct Silu {
  static DEVICE Gate of(float x) {
    const float share = logistic(x);
    return {x * share, share * (1 + x * (1 - share))};
  }
};

struct Sigmoid {
  static DEVICE Gate of(float x) {
    const float share = logistic(x);
    return {share, share * (1 - share)};
  }
};

DEVICE int64_t rows_from(int64_t first, const RowsArgs& of) {
  return of.rows - first < kParts ? of.rows - first : kParts;
}

template <class T, class Function>
DEVICE void gated(const Team& team, int64_t item, const GatedArgs& a) {
  const int64_t first = item * kParts;
  const bool even = a.even();
  team.split(rows_from(first, a.of_x), [=](int64_t row, const auto& part) {
    const T* const gate = static_cast<const T*>(a.gate) + a.of_gate.at(first + row);
    const T* const x = static_cast<const T*>(a.x) + a.of_x.at(first + row);
    T* const y = static_cast<T*>(a.y) + (first + row) * a.of_x.width;
    each_at<kTogether>(part, a.of_x.width, even, [=](auto at) {
      const auto of_gate = load(gate, at);
      auto values = load(x, at);
      at.each([&](int k) { values[k] = Function::of(of_gate[k]).value * values[k]; });
      store(y, at, values);
    });
  });
}

template <class T, class Function>
DEVICE void gated_gradient(const Team& team, int64_t item, const GatedGradientArgs& a) {
  const int64_t first = item * kParts;
  const GatedArgs forward = a.forward;
  const bool even = forward.even() && a.of_dy.even(a.dy) && aligned(a.d_gate);
  team.split(rows_from(first, forward.of_x), [=](int64_t row, const auto& part) {
    const T* const gate = static_cast<const T*>(forward.gate) + forward.of_gate.at(first + row);
    const T* const x = static_cast<const T*>(forward.x) + forward.of_x.at(first + row);
    const T* const dy = static_cast<const T*>(a.dy) + a.of_dy.at(first + row);
    T* const dx = static_cast<T*>(forward.y) + (first + row) * forward.of_x.width;
    T* const d_gate = static_cast<T*>(a.d_gate) + (first + row) * forward.of_x.width;
    each_at<kTogether>(part, forward.of_x.width, even, [=](auto at) {
      const auto of_gate = load(gate, at);
      auto values = load(x, at), g = load(dy, at);
      at.each([&](int k) {
        const Gate f = Function::of(of_gate[k]);
        values[k] = g[k] * values[k] * f.slope;
        g[k] = g[k] * f.value;
      });
      store(d_gate, at, values);
      store(dx, at, g);
    });
  });
}

}  // namespace

REVMOE_KERNEL(silu_gated_float, (gated<float, Silu>), GatedArgs)
REVMOE_KERNEL(silu_gated_bfloat16, (gated<bfloat16, Silu>), GatedArgs)
REVMOE_KERNEL(sigmoid_gated_float, (gated<float, Sigmoid>), GatedArgs)
REVMOE_KERNEL(sigmoid_gated_bfloat16, (gated<bfloat16, Sigmoid>), GatedArgs)
REVMOE_KERNEL(silu_gated_float_gradient, (gated_gradient<float, Silu>), GatedGradientArgs)
REVMOE_KERNEL(silu_gated_bfloat16_gradient, (gated_gradient<bfloat16, Silu>), GatedGradientArgs)
REVMOE_KERNEL(sigmoid_gated_float_gradient, (gated_gradient<float, Sigmoid>), GatedGradientArgs)
REVMOE_KERNEL(sigmoid_gated_bfloat16_gradient, (gated_gradient<bfloat16, Sigmoid>), GatedGradientArgs)

}  // namespace revmoe::kernels
