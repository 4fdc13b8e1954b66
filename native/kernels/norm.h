// The root-mean-square norm of rows and the rotation of heads by position (src/layers/norm.ts, rotate.ts), each alone
// or both in one pass, and their gradients. Everything is computed in float32 and rounded once. A row is a vector to be
// normed, or a head of a token. Without a weight it is not normed. 2 * `half` of its features are rotated, from feature
// `start` on, as pairs `half` apart, or as neighbours.
#pragma once
#include "rows.h"

namespace revmoe::kernels {
namespace {

struct NormArgs {
  RowsArgs of_x;
  const void* x;
  /** Dense. */
  void* y;
  /** Null without a norm. `plus` (0 or 1) is added to each weight. */
  const float* weight;
  float plus, epsilon;
  /** 1 / sqrt(mean(x^2) + epsilon) of each row; null if it is not wanted. */
  float* scale;
  /** [tokens, 2 * half]; both halves are the same. */
  const void* cos;
  const void* sin;
  int64_t start, half;

  /** Whether a GPU's threads take several features at a time. */
  DEVICE bool even() const {
    return of_x.even(x) && aligned(y, weight, cos, sin) && (of_x.width | start | half) % kTogether == 0;
  }
};

struct NormGradientArgs {
  /** `y` is the gradient of x, in x's type. */
  NormArgs forward;
  RowsArgs of_dy;
  const void* dy;
  /** Rows of a strip, and for each strip the sum of its rows' gradients of the weight. */
  int64_t height;
  float* sums;

  DEVICE bool even() const { return forward.even() && of_dy.even(dy) && aligned(sums); }
};

/** The pairs of a row that are rotated: their places in x, and the angle. */
template <class Table, bool kNeighbours>
struct Pairs {
  const Table* cos;
  const Table* sin;
  int64_t start, half;
  DEVICE Pairs(const NormArgs& a, int64_t row)
      : cos(static_cast<const Table*>(a.cos) + a.of_x.token_of(row) * 2 * a.half),
        sin(static_cast<const Table*>(a.sin) + a.of_x.token_of(row) * 2 * a.half),
        start(a.start),
        half(a.half) {}
  /** The places of both features of some pairs in x. */
  template <int n>
  DEVICE At<n> first(At<n> at) const {
    return {start + (kNeighbours ? 2 * at.first : at.first)};
  }
  template <int n>
  DEVICE At<n> second(At<n> at) const {
    return {start + (kNeighbours ? 2 * at.first + n : half + at.first)};
  }
  /** From neighbours to the first features of all pairs and the second ones; and back. */
  template <int n>
  DEVICE static void part(Some<float, n>& a, Some<float, n>& b) {
    if (!kNeighbours) return;
    const Some<float, n> low = a, high = b;
    At<n>::each([&](int k) {
      a[k] = 2 * k < n ? low[2 * k] : high[2 * k - n];
      b[k] = 2 * k + 1 < n ? low[2 * k + 1] : high[2 * k + 1 - n];
    });
  }
  template <int n>
  DEVICE static void join(Some<float, n>& a, Some<float, n>& b) {
    if (!kNeighbours) return;
    const Some<float, n> firsts = a, seconds = b;
    At<n>::each([&](int k) {
      a[k] = k % 2 == 0 ? firsts[k / 2] : seconds[k / 2];
      b[k] = (n + k) % 2 == 0 ? firsts[(n + k) / 2] : seconds[(n + k) / 2];
    });
  }
  /** The places of the results. */
  template <int n>
  DEVICE At<n> left(At<n> at) const {
    return {start + at.first};
  }
  template <int n>
  DEVICE At<n> right(At<n> at) const {
    return {start + half + at.first};
  }
  DEVICE int64_t end() const { return start + 2 * half; }
};

/** y = f of some features, rotated. */
template <class Turn, class Worker, class Y, class F>
DEVICE void turn(const Worker& worker, const Turn pairs, int64_t width, bool even, Y* y, F f) {
  each_at<kTogether>(worker, pairs.half, even, [=](auto at) {
    auto a = f(pairs.first(at)), b = f(pairs.second(at));
    const auto cos = load(pairs.cos, at), sin = load(pairs.sin, at);
    pairs.part(a, b);
    at.each([&](int k) {
      const float left = a[k] * cos[k] - b[k] * sin[k];
      b[k] = b[k] * cos[k] + a[k] * sin[k];
      a[k] = left;
    });
    store(y, pairs.left(at), a);
    store(y, pairs.right(at), b);
  });
  const int64_t end = pairs.end();
  each_at<kTogether>(worker, pairs.start, even, [=](auto at) { store(y, at, f(at)); });
  each_at<kTogether>(worker, width - end, even, [=](auto at) {
    at.first += end;
    store(y, at, f(at));
  });
}

template <class X, class Y, class Turn, class Worker>
DEVICE void norm_row(const Worker& worker, int64_t row, const NormArgs& a) {
  const X* const x = static_cast<const X*>(a.x) + a.of_x.at(row);
  const int64_t width = a.of_x.width;
  const bool even = a.even();
  Y* const y = static_cast<Y*>(a.y) + row * width;
  const Turn pairs(a, row);
  if (a.weight == nullptr) return turn(worker, pairs, width, even, y, [=](auto at) { return load(x, at); });
  const double squares = sum_at<kTogether, double>(worker, width, even, [=](auto at) {
    const auto values = load(x, at);
    double sum = 0;
    at.each([&](int k) { sum += static_cast<double>(values[k]) * values[k]; });
    return sum;
  });
  const float scale = static_cast<float>(1 / square_root(squares / static_cast<double>(width) + a.epsilon));
  if (a.scale != nullptr) worker.once([=] { a.scale[row] = scale; });
  const float* const weight = a.weight;
  const float plus = a.plus;
  turn(worker, pairs, width, even, y, [=](auto at) {
    auto values = load(x, at);
    const auto own = load(weight, at);
    at.each([&](int k) { values[k] = values[k] * scale * (own[k] + plus); });
    return values;
  });
}

/** For some pairs, the gradients of both features before the rotation. */
template <class Turn, class Y, int n>
DEVICE void turn_some_back(const Turn& pairs, const Y* dy, At<n> at, Some<float, n>& a, Some<float, n>& b) {
  a = load(dy, pairs.left(at));
  b = load(dy, pairs.right(at));
  const auto cos = load(pairs.cos, at), sin = load(pairs.sin, at);
  at.each([&](int k) {
    const float first = a[k] * cos[k] + b[k] * sin[k];
    b[k] = b[k] * cos[k] - a[k] * sin[k];
    a[k] = first;
  });
  pairs.join(a, b);
}

/** f(at, g) for some features of x, with g the gradients of their values before the rotation. */
template <class Turn, class Worker, class Y, class F>
DEVICE void turn_back(const Worker& worker, const Turn pairs, int64_t width, bool even, const Y* dy, F f) {
  each_at<kTogether>(worker, pairs.half, even, [=](auto at) {
    auto a = load(dy, pairs.left(at)), b = a;
    turn_some_back(pairs, dy, at, a, b);
    f(pairs.first(at), a);
    f(pairs.second(at), b);
  });
  const int64_t end = pairs.end();
  each_at<kTogether>(worker, pairs.start, even, [=](auto at) { f(at, load(dy, at)); });
  each_at<kTogether>(worker, width - end, even, [=](auto at) {
    at.first += end;
    f(at, load(dy, at));
  });
}

/** The sum of f(at, g) in the same way. */
template <class Turn, class Worker, class Y, class F>
DEVICE float sum_back(const Worker& worker, const Turn pairs, int64_t width, bool even, const Y* dy, F f) {
  const auto from = [&](int64_t first, int64_t end) {
    if (first == end) return 0.0f;
    return sum_at<kTogether, float>(worker, end - first, even, [=](auto at) {
      at.first += first;
      return f(at, load(dy, at));
    });
  };
  const float still = from(0, pairs.start) + from(pairs.end(), width);
  if (pairs.half == 0) return still;
  return still + sum_at<kTogether, float>(worker, pairs.half, even, [=](auto at) {
           auto a = load(dy, pairs.left(at)), b = a;
           turn_some_back(pairs, dy, at, a, b);
           return f(pairs.first(at), a) + f(pairs.second(at), b);
         });
}

/** With n = x * scale, w = weight + plus:  dx = scale (g w - n mean(g w n)),  d weight = sum of g n. */
template <class X, class Y, class Turn, class Worker>
DEVICE void norm_strip(const Worker& worker, int64_t strip, const NormGradientArgs& a) {
  const NormArgs& forward = a.forward;
  const int64_t width = forward.of_x.width;
  const bool even = a.even();
  float* const sums = a.sums + strip * width;
  const float* const weight = forward.weight;
  const float plus = forward.plus;
  const int64_t first = strip * a.height, rows = forward.of_x.rows;
  for (int64_t row = first; row < first + a.height && row < rows; row++) {
    const X* const x = static_cast<const X*>(forward.x) + forward.of_x.at(row);
    const Y* const dy = static_cast<const Y*>(a.dy) + a.of_dy.at(row);
    X* const dx = static_cast<X*>(forward.y) + row * width;
    const Turn pairs(forward, row);
    if (weight == nullptr) {
      turn_back(worker, pairs, width, even, dy, [=](auto at, const auto& g) { store(dx, at, g); });
      continue;
    }
    const float scale = forward.scale[row];
    const float product = sum_back(worker, pairs, width, even, dy, [=](auto at, const auto& g) {
      const auto own = load(x, at), of_weight = load(weight, at);
      float sum = 0;
      at.each([&](int k) { sum += g[k] * (of_weight[k] + plus) * own[k]; });
      return sum;
    });
    const float mean = product * scale * scale / static_cast<float>(width);
    // A feature always belongs to the same thread, so no thread waits for others to write zeros.
    const bool further = row > first;
    turn_back(worker, pairs, width, even, dy, [=](auto at, const auto& g) {
      auto own = load(x, at), sum = own;
      const auto of_weight = load(weight, at);
      if (further) sum = load(sums, at);
      at.each([&](int k) {
        sum[k] = (further ? sum[k] : 0) + g[k] * own[k] * scale;
        own[k] = scale * (g[k] * (of_weight[k] + plus) - own[k] * mean);
      });
      store(sums, at, sum);
      store(dx, at, own);
    });
  }
}

/** No pairs are rotated. */
struct Still : Pairs<float, false> {
  DEVICE Still(const NormArgs& a, int64_t row) : Pairs(a, row) { start = half = 0; }
};

/** An item is a row, or a strip; with rotation, as many of them as a team has parts. */
template <class X, class Y>
DEVICE void norm(const Team& team, int64_t item, const NormArgs& a) {
  norm_row<X, Y, Still>(team, item, a);
}
template <class X, class Y>
DEVICE void norm_gradient(const Team& team, int64_t item, const NormGradientArgs& a) {
  norm_strip<X, Y, Still>(team, item, a);
}

DEVICE int64_t parts_from(int64_t first, int64_t all) { return all - first < kSmallParts ? all - first : kSmallParts; }

template <class X, class Turn>
DEVICE void heads(const Team& team, int64_t item, const NormArgs& a) {
  const int64_t first = item * kSmallParts;
  team.split<kSmallParts>(parts_from(first, a.of_x.rows),
                          [=](int64_t i, const auto& part) { norm_row<X, X, Turn>(part, first + i, a); });
}
template <class X, class Turn>
DEVICE void heads_gradient(const Team& team, int64_t item, const NormGradientArgs& a) {
  const int64_t first = item * kSmallParts;
  team.split<kSmallParts>(parts_from(first, (a.forward.of_x.rows + a.height - 1) / a.height),
                          [=](int64_t i, const auto& part) { norm_strip<X, X, Turn>(part, first + i, a); });
}

// Tables have the type of the rotated features, or float32; "N": neighbours.
using Tables = Pairs<float, false>;
using TablesN = Pairs<float, true>;
using Narrow = Pairs<bfloat16, false>;
using NarrowN = Pairs<bfloat16, true>;

}  // namespace

REVMOE_KERNEL(norm_float, (norm<float, float>), NormArgs)
REVMOE_KERNEL(norm_to_bfloat16, (norm<float, bfloat16>), NormArgs)
REVMOE_KERNEL(norm_bfloat16, (norm<bfloat16, bfloat16>), NormArgs)
REVMOE_KERNEL(norm_float_gradient, (norm_gradient<float, float>), NormGradientArgs)
REVMOE_KERNEL(norm_to_bfloat16_gradient, (norm_gradient<float, bfloat16>), NormGradientArgs)
REVMOE_KERNEL(norm_bfloat16_gradient, (norm_gradient<bfloat16, bfloat16>), NormGradientArgs)

REVMOE_KERNEL(heads_float, (heads<float, Tables>), NormArgs)
REVMOE_KERNEL(heads_float_n, (heads<float, TablesN>), NormArgs)
REVMOE_KERNEL(heads_bfloat16, (heads<bfloat16, Narrow>), NormArgs)
REVMOE_KERNEL(heads_bfloat16_n, (heads<bfloat16, NarrowN>), NormArgs)
REVMOE_KERNEL(heads_bfloat16_wide, (heads<bfloat16, Tables>), NormArgs)
REVMOE_KERNEL(heads_bfloat16_wide_n, (heads<bfloat16, TablesN>), NormArgs)
REVMOE_KERNEL(heads_float_gradient, (heads_gradient<float, Tables>), NormGradientArgs)
REVMOE_KERNEL(heads_float_n_gradient, (heads_gradient<float, TablesN>), NormGradientArgs)
REVMOE_KERNEL(heads_bfloat16_gradient, (heads_gradient<bfloat16, Narrow>), NormGradientArgs)
REVMOE_KERNEL(heads_bfloat16_n_gradient, (heads_gradient<bfloat16, NarrowN>), NormGradientArgs)
REVMOE_KERNEL(heads_bfloat16_wide_gradient, (heads_gradient<bfloat16, Tables>), NormGradientArgs)
REVMOE_KERNEL(heads_bfloat16_wide_n_gradient, (heads_gradient<bfloat16, TablesN>), NormGradientArgs)

}  // namespace revmoe::kernels
