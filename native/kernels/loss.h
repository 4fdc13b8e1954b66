// Losses over the vocabulary, for logits as the head's product gives them. A row is read once for its largest logit and
// the sum of the exponentials, and once more to become the gradient, in place. An item is a row. Its figures are two
// float64 numbers: its loss, and 1 if its label has the largest logit. The equations are those of
// src/reversible/objectives.ts.
#pragma once
#include "groups.h"

namespace revmoe::kernels {
namespace {

/**
 * After this many elements the sum is rescaled to the largest logit so far: few enough that they are still in the cache
 * for the second read.
 */
constexpr int64_t kNearElements = 8192;
/** Below every logit, but finite, so that a difference is a number. */
constexpr float kLeast = -3.4028235e38f;

/** y = factor z, or cap tanh(factor z) with a cap above zero; its slope at z = 0. */
struct LogitArgs {
  void* values;
  float factor, cap, slope;
};

/** tanh(x), within 4 units in the last place: near zero by its series, because the quotient has lost digits there. */
DEVICE float hyperbolic_tangent(float x) {
  const float square = x * x;
  const float series =
      x +
      x * square * (-3.33333333e-1f + square * (1.33333333e-1f + square * (-5.39682540e-2f + square * 2.18694885e-2f)));
  const float twice = 2 * magnitude(x);
  const float power = exponential_within(twice > 40.0f ? 40.0f : twice);
  const float quotient = (power - 1) / (power + 1);
  return magnitude(x) < 0.25f ? series : (x < 0 ? -quotient : quotient);
}

/** The logits of a row after factor and cap. With kCapped, a cap of zero is no cap. */
template <class T, bool kCapped>
struct Logits {
  T* values;
  float factor, cap, slope_at_zero, inverse;
  DEVICE Logits(const LogitArgs& args, int64_t first)
      : values(static_cast<T*>(args.values) + first),
        factor(args.factor),
        cap(args.cap),
        slope_at_zero(args.slope),
        inverse(args.cap > 0 ? 1 / args.cap : 0) {}
  template <int n>
  DEVICE Some<float, n> operator()(At<n> at) const {
    auto y = load(values, at);
    at.each([&](int k) {
      y[k] = y[k] * factor;
      if (kCapped) y[k] = cap > 0 ? cap * hyperbolic_tangent(y[k]) : y[k];
    });
    return y;
  }
  DEVICE float operator()(int64_t i) const { return (*this)(At<1>{i})[0]; }
  DEVICE float slope(float y) const {
    return kCapped ? slope_at_zero * (1 - (y * inverse) * (y * inverse)) : slope_at_zero;
  }
  DEVICE void store(int64_t i, float value) const { kernels::store(values, i, value); }
  DEVICE bool even(int64_t n) const { return aligned(values) && n % kTogether == 0; }
};

/** log of the sum of the exponentials of n logits, kept as the largest logit and the sum relative to it. */
struct LogSum {
  float most = kLeast;
  double sum = 0;

  template <class Z>
  DEVICE LogSum(const Team& team, int64_t n, const Z& z) {
#ifdef REVMOE_GPU
    // Each thread uses the largest logit of its own, so a row is read once.
    float own = kLeast, own_sum = 0;
    each_at<kTogether>(team, n, z.even(n), [&](auto at) {
      const auto y = z(at);
      float now = own;
      at.each([&](int k) { now = y[k] > now ? y[k] : now; });
      own_sum *= exponential_down(own - now);
      at.each([&](int k) { own_sum += exponential_down(y[k] - now); });
      own = now;
    });
    most = most_of_team(team, own);
    sum = team.sum<double>(kThreads,
                           [&](int64_t) { return static_cast<double>(own_sum) * exponential_down(own - most); });
#else
    for (int64_t first = 0; first < n; first += kNearElements) {
      const int64_t count = n - first < kNearElements ? n - first : kNearElements;
      const float before = most;
      const float now = team.most<float>(count, before, [=](int64_t i) { return z(first + i); });
      most = now;
      sum = sum * exponential_down(before - now) +
            team.sum<float>(count, [=](int64_t i) { return exponential_down(z(first + i) - now); });
    }
#endif
  }
  DEVICE double value() const { return log(sum) + most; }
};

struct CrossEntropyArgs {
  LogitArgs logits;
  const int64_t* labels;
  /** [rows, 2] */
  double* figures;
  int64_t vocabulary;
  /** Whether logits become the gradient times `scale`. */
  bool gradient;
  float scale;
};

template <class Z>
DEVICE void cross_entropy_row(const Team& team, int64_t row, const CrossEntropyArgs& a) {
  const Z z(a.logits, row * a.vocabulary);
  const int64_t label = a.labels[row];
  const bool known = label >= 0 && label < a.vocabulary;
  // Read before any thread of the team writes. For a label outside of the vocabulary, the loss is NaN.
  const float target = known ? z(label) : float_of(0x7fc00000u);
  const LogSum all(team, a.vocabulary, z);
  team.once([=] {
    a.figures[2 * row] = all.value() - target;
    a.figures[2 * row + 1] = target < all.most ? 0 : 1;
  });
  if (!a.gradient) return;
  const float share = static_cast<float>(a.scale / all.sum);
  const auto gradient = [=](float y) { return exponential_down(y - all.most) * share; };
  each_at<kTogether>(team, a.vocabulary, z.even(a.vocabulary), [=](auto at) {
    auto y = z(at);
    at.each([&](int k) { y[k] = gradient(y[k]) * z.slope(y[k]); });
    store(z.values, at, y);
  });
  team.sync();
  team.once([=] {
    if (known) z.store(label, (gradient(target) - a.scale) * z.slope(target));
  });
}

template <class T>
DEVICE void cross_entropy(const Team& team, int64_t row, const CrossEntropyArgs& a) {
  if (a.logits.cap > 0) return cross_entropy_row<Logits<T, true>>(team, row, a);
  cross_entropy_row<Logits<T, false>>(team, row, a);
}

struct DivergenceArgs {
  LogitArgs logits, teacher;
  double* figures;
  int64_t vocabulary;
  bool gradient;
  /** Factor of the loss; factor of the gradient. */
  float weight, scale;
};

template <class Z>
DEVICE void divergence_row(const Team& team, int64_t row, const DivergenceArgs& a) {
  const Z z(a.logits, row * a.vocabulary);
  const Z teacher(a.teacher, row * a.vocabulary);
  const LogSum of_z(team, a.vocabulary, z), of_teacher(team, a.vocabulary, teacher);
  const float z_most = of_z.most, z_share = static_cast<float>(a.scale / of_z.sum);
  const float p_most = of_teacher.most, p_share = static_cast<float>(a.scale / of_teacher.sum);
  double apart = 0;
  for (int64_t first = 0; first < a.vocabulary; first += kNearElements) {
    const int64_t count = a.vocabulary - first < kNearElements ? a.vocabulary - first : kNearElements;
    apart += team.sum<float>(count, [=](int64_t element) {
      const float p = teacher(first + element) - p_most;
      return exponential_down(p) * (p - (z(first + element) - z_most));
    });
    if (!a.gradient) continue;
    team.each(count, [=](int64_t element) {
      const int64_t i = first + element;
      const float y = z(i);
      const float pull = exponential_down(y - z_most) * z_share - exponential_down(teacher(i) - p_most) * p_share;
      z.store(i, pull * z.slope(y));
    });
  }
  team.once([=] {
    a.figures[2 * row] = (apart / of_teacher.sum + (log(of_z.sum) - log(of_teacher.sum))) * a.weight;
    a.figures[2 * row + 1] = 0;
  });
}

template <class T>
DEVICE void divergence(const Team& team, int64_t row, const DivergenceArgs& a) {
  if (a.logits.cap > 0 || a.teacher.cap > 0) return divergence_row<Logits<T, true>>(team, row, a);
  divergence_row<Logits<T, false>>(team, row, a);
}

}  // namespace

REVMOE_KERNEL(cross_entropy_float32, cross_entropy<float>, CrossEntropyArgs)
REVMOE_KERNEL(cross_entropy_bfloat16, cross_entropy<bfloat16>, CrossEntropyArgs)
REVMOE_KERNEL(divergence_float32, divergence<float>, DivergenceArgs)
REVMOE_KERNEL(divergence_bfloat16, divergence<bfloat16>, DivergenceArgs)

}  // namespace revmoe::kernels
