// What the experts of a layer compute between their two products (equations in native/experts/expert_activation.hpp),
// times a gate for each row; and, from the gradient of that, the gradients of gate, up and the row's gate. An item is a
// choice, which has its own row. Values are float32 between loads and stores, and the same forward and backward.
#pragma once
#include "groups.h"

namespace revmoe::kernels {
namespace {

struct ActivationArgs {
  /** Rows of gate and up, as halves or alternating, or only up; their gradients are written to the same places. */
  void* both;
  /** Rows of the result. In the backward pass it first has the gradient of the result. */
  void* inner;
  const float* gates;
  float* d_gates;
  const int64_t* places;
  int64_t width;
  float limit, alpha;
  /** Which of the structures below, and whether gate and up alternate. */
  int32_t what, interleaved;

  /** Whether a GPU's threads take several columns at a time. */
  DEVICE bool even() const { return aligned(both, inner) && width % kTogether == 0 && !interleaved; }
};

/** Gate and up, or their gradients. */
struct Pair {
  float gate, up;
};

DEVICE float expert_sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

struct SiluGate {
  static constexpr bool kGated = true;
  DEVICE static float value(const ActivationArgs&, float gate, float up) { return gate * expert_sigmoid(gate) * up; }
  DEVICE static Pair gradient(const ActivationArgs&, float gate, float up, float d) {
    const float s = expert_sigmoid(gate);
    return {d * up * (s * (1 + gate * (1 - s))), d * (gate * s)};
  }
};

// (1 + tanh z) / 2 = sigmoid(2 z), with z = sqrt(2 / pi) (g + 0.044715 g^3).
struct Gelu {
  static constexpr bool kGated = true;
  static constexpr float kTwice = 1.59576912f, kCube = 0.044715f;
  DEVICE static float share(float gate) { return expert_sigmoid(kTwice * (gate + kCube * gate * gate * gate)); }
  DEVICE static float value(const ActivationArgs&, float gate, float up) { return gate * share(gate) * up; }
  DEVICE static Pair gradient(const ActivationArgs&, float gate, float up, float d) {
    const float s = share(gate);
    const float slope = kTwice * (1 + 3 * kCube * gate * gate);
    return {d * up * (s + gate * (s * (1 - s)) * slope), d * (gate * s)};
  }
};

// What was clamped has no gradient, and neither has a value at the limit.
struct Clamped {
  static constexpr bool kGated = true;
  DEVICE static float bounded(float x, float limit) { return x > limit ? limit : (x < -limit ? -limit : x); }
  DEVICE static float value(const ActivationArgs& a, float gate, float up) {
    const float g = gate > a.limit ? a.limit : gate;
    return g * expert_sigmoid(a.alpha * g) * (bounded(up, a.limit) + 1);
  }
  DEVICE static Pair gradient(const ActivationArgs& a, float gate, float up, float d) {
    const float g = gate > a.limit ? a.limit : gate;
    const float s = expert_sigmoid(a.alpha * g);
    const float d_gate = d * (bounded(up, a.limit) + 1) * (s + a.alpha * g * (s * (1 - s)));
    const float d_up = d * (g * s);
    return {gate >= a.limit ? 0.0f : d_gate, magnitude(up) >= a.limit ? 0.0f : d_up};
  }
};

struct ReluSquared {
  static constexpr bool kGated = false;
  DEVICE static float value(const ActivationArgs&, float, float up) { return up > 0 ? up * up : up * 0.0f; }
  DEVICE static Pair gradient(const ActivationArgs&, float, float up, float d) {
    return {0, up > 0 ? 2 * up * d : up * 0.0f};
  }
};

/** Where gate and up of a column lie. */
template <class Act, bool interleaved, class T>
struct Columns {
  T* row;
  int64_t width;
  template <int n>
  DEVICE At<n> gate(At<n> at) const {
    return {interleaved ? 2 * at.first : at.first};
  }
  template <int n>
  DEVICE At<n> up(At<n> at) const {
    return {interleaved ? 2 * at.first + 1 : (Act::kGated ? width + at.first : at.first)};
  }
  /** Gate and up of alternating columns. */
  DEVICE Pair load(int64_t i) const { return {kernels::load(row, 2 * i), kernels::load(row, 2 * i + 1)}; }
  DEVICE void store(int64_t i, Pair pair) const {
    kernels::store(row, 2 * i, pair.gate);
    kernels::store(row, 2 * i + 1, pair.up);
  }
};

struct Forward {
  template <class Act, bool interleaved, class T>
  DEVICE static void run(const Team& team, int64_t choice, const ActivationArgs& a) {
    const int64_t place = a.places[choice];
    const Columns<Act, interleaved, T> both{static_cast<T*>(a.both) + place * (Act::kGated ? 2 : 1) * a.width, a.width};
    T* const inner = static_cast<T*>(a.inner) + place * a.width;
    const float row_gate = a.gates[choice];
    each_at<kTogether>(team, a.width, a.even(), [=](auto at) {
      const auto gate = load(both.row, both.gate(at));
      auto values = load(both.row, both.up(at));
      at.each([&](int k) { values[k] = row_gate * Act::value(a, gate[k], values[k]); });
      store(inner, at, values);
    });
  }
};

struct Backward {
  template <class Act, bool interleaved, class T>
  DEVICE static void run(const Team& team, int64_t choice, const ActivationArgs& a) {
    const int64_t place = a.places[choice];
    const Columns<Act, interleaved, T> both{static_cast<T*>(a.both) + place * (Act::kGated ? 2 : 1) * a.width, a.width};
    T* const inner = static_cast<T*>(a.inner) + place * a.width;
    const float row_gate = a.gates[choice];
    float d_gate;
    if constexpr (interleaved) {
      // The compiler does not vectorise a loop that does both on a CPU.
      d_gate = team.sum<float>(a.width, [=](int64_t i) {
        const Pair x = both.load(i);
        return load(inner, i) * Act::value(a, x.gate, x.up);
      });
      team.each(a.width, [=](int64_t i) {
        const Pair x = both.load(i);
        const float d = row_gate * load(inner, i);
        store(inner, i, row_gate * Act::value(a, x.gate, x.up));
        both.store(i, Act::gradient(a, x.gate, x.up, d));
      });
    } else {
      d_gate = sum_at<kTogether, float>(team, a.width, a.even(), [=](auto at) {
        auto gate = load(both.row, both.gate(at)), up = load(both.row, both.up(at)), d = load(inner, at);
        float sum = 0;
        at.each([&](int k) {
          const float value = Act::value(a, gate[k], up[k]);
          const Pair gradient = Act::gradient(a, gate[k], up[k], row_gate * d[k]);
          sum += d[k] * value;
          d[k] = row_gate * value;
          gate[k] = gradient.gate;
          up[k] = gradient.up;
        });
        store(inner, at, d);
        if (Act::kGated) store(both.row, both.gate(at), gate);
        store(both.row, both.up(at), up);
        return sum;
      });
    }
    team.once([=] { a.d_gates[choice] = d_gate; });
  }
};

template <class Way, class Act, class T>
DEVICE void in_columns(const Team& team, int64_t choice, const ActivationArgs& a) {
  if (a.interleaved) return Way::template run<Act, true, T>(team, choice, a);
  Way::template run<Act, false, T>(team, choice, a);
}

/** The cases have the order of kActivations. */
template <class Way, class T>
DEVICE void activate(const Team& team, int64_t choice, const ActivationArgs& a) {
  switch (a.what) {
    case 0:
      return in_columns<Way, SiluGate, T>(team, choice, a);
    case 1:
      return in_columns<Way, Gelu, T>(team, choice, a);
    case 2:
      return in_columns<Way, Clamped, T>(team, choice, a);
    default:
      return Way::template run<ReluSquared, false, T>(team, choice, a);
  }
}

template <class T>
DEVICE void activate_forward(const Team& team, int64_t choice, const ActivationArgs& a) {
  activate<Forward, T>(team, choice, a);
}
template <class T>
DEVICE void activate_backward(const Team& team, int64_t choice, const ActivationArgs& a) {
  activate<Backward, T>(team, choice, a);
}

}  // namespace

REVMOE_KERNEL(activate_float, activate_forward<float>, ActivationArgs)
REVMOE_KERNEL(activate_bfloat16, activate_forward<bfloat16>, ActivationArgs)
REVMOE_KERNEL(activate_back_float, activate_backward<float>, ActivationArgs)
REVMOE_KERNEL(activate_back_bfloat16, activate_backward<bfloat16>, ActivationArgs)

}  // namespace revmoe::kernels
