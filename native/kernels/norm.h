// The root-mean-square norm of rows and the rotation of heads by their positions (src/layers/norm.ts, rotate.ts), each alone or both in one
// pass, and their gradients. All is computed in float32 and rounded once. A row is a vector that is normed or a head of a token; without a
// weight it is not normed, and 2 * `half` of its features turn, from the one numbered `start` on. What turns comes as pairs half a turn apart, or as neighbours.
#pragma once
#include "rows.h"

namespace revmoe::kernels {
namespace {

struct NormArgs {
  RowsArgs of_x;
  const void* x;
  /** Dense. */
  void* y;
  /** Null without a norm. Each is added to `plus`, which is 0 or 1. */
  const float* weight;
  float plus, epsilon;
  /** 1 / sqrt(mean(x^2) + epsilon) of each row; null where nobody asks. */
  float* scale;
  /** [tokens, 2 * half], of which both halves are alike. */
  const void* cos;
  const void* sin;
  int64_t start, half;
};

struct NormGradientArgs {
  /** `y` is the gradient of x, of x's type. */
  NormArgs forward;
  RowsArgs of_dy;
  const void* dy;
  /** Rows of a strip, and for each strip the sum of its rows' gradients of the weight. */
  int64_t height;
  float* sums;
};

/** The pairs of a row that turn: where they are in x, and by how much. */
template <class Table, bool kNeighbours>
struct Pairs {
  const Table* cos;
  const Table* sin;
  int64_t start, half;
  DEVICE Pairs(const NormArgs& a, int64_t row)
      : cos(static_cast<const Table*>(a.cos) + row / a.of_x.heads * 2 * a.half),
        sin(static_cast<const Table*>(a.sin) + row / a.of_x.heads * 2 * a.half),
        start(a.start),
        half(a.half) {}
  DEVICE int64_t first(int64_t i) const { return start + (kNeighbours ? 2 * i : i); }
  DEVICE int64_t second(int64_t i) const { return start + (kNeighbours ? 2 * i + 1 : i + half); }
  /** In what they become. */
  DEVICE int64_t left(int64_t i) const { return start + i; }
  DEVICE int64_t right(int64_t i) const { return start + half + i; }
  DEVICE int64_t end() const { return start + 2 * half; }
};

/** y = f of each feature, turned. */
template <class Turn, class Worker, class Y, class F>
DEVICE void turn(const Worker& worker, const Turn pairs, int64_t width, Y* y, F f) {
  worker.each(pairs.half, [=](int64_t i) {
    const float a = f(pairs.first(i)), b = f(pairs.second(i));
    const float cos = load(pairs.cos, i), sin = load(pairs.sin, i);
    store(y, pairs.left(i), a * cos - b * sin);
    store(y, pairs.right(i), b * cos + a * sin);
  });
  const int64_t end = pairs.end();
  worker.each(pairs.start, [=](int64_t i) { store(y, i, f(i)); });
  worker.each(width - end, [=](int64_t i) { store(y, end + i, f(end + i)); });
}

template <class X, class Y, class Turn, class Worker>
DEVICE void norm_row(const Worker& worker, int64_t row, const NormArgs& a) {
  const X* const x = static_cast<const X*>(a.x) + a.of_x.at(row);
  const int64_t width = a.of_x.width;
  Y* const y = static_cast<Y*>(a.y) + row * width;
  const Turn pairs(a, row);
  if (a.weight == nullptr) return turn(worker, pairs, width, y, [=](int64_t i) { return load(x, i); });
  const double squares =
      worker.template sum<double>(width, [=](int64_t i) { return static_cast<double>(load(x, i)) * load(x, i); });
  const float scale = static_cast<float>(1 / square_root(squares / static_cast<double>(width) + a.epsilon));
  if (a.scale != nullptr) worker.once([=] { a.scale[row] = scale; });
  const float* const weight = a.weight;
  const float plus = a.plus;
  turn(worker, pairs, width, y, [=](int64_t i) { return load(x, i) * scale * (weight[i] + plus); });
}

/** f(i, g) for each feature i of x, with g the gradient of what was made of it before it turned. */
template <class Turn, class Worker, class Y, class F>
DEVICE void turn_back(const Worker& worker, const Turn pairs, int64_t width, const Y* dy, F f) {
  worker.each(pairs.half, [=](int64_t i) {
    const float a = load(dy, pairs.left(i)), b = load(dy, pairs.right(i));
    const float cos = load(pairs.cos, i), sin = load(pairs.sin, i);
    f(pairs.first(i), a * cos + b * sin);
    f(pairs.second(i), b * cos - a * sin);
  });
  const int64_t end = pairs.end();
  worker.each(pairs.start, [=](int64_t i) { f(i, load(dy, i)); });
  worker.each(width - end, [=](int64_t i) { f(end + i, load(dy, end + i)); });
}

/** The sum of f(i, g) likewise. */
template <class Turn, class Worker, class Y, class F>
DEVICE float sum_back(const Worker& worker, const Turn pairs, int64_t width, const Y* dy, F f) {
  const auto from = [&](int64_t first, int64_t end) {
    if (first == end) return 0.0f;
    return worker.template sum<float>(end - first, [=](int64_t i) { return f(first + i, load(dy, first + i)); });
  };
  const float still = from(0, pairs.start) + from(pairs.end(), width);
  if (pairs.half == 0) return still;
  return still + worker.template sum<float>(pairs.half, [=](int64_t i) {
    const float a = load(dy, pairs.left(i)), b = load(dy, pairs.right(i));
    const float cos = load(pairs.cos, i), sin = load(pairs.sin, i);
    return f(pairs.first(i), a * cos + b * sin) + f(pairs.second(i), b * cos - a * sin);
  });
}

/** With n = x * scale, w = weight + plus:  dx = scale (g w - n mean(g w n)),  d weight = sum of g n. */
template <class X, class Y, class Turn, class Worker>
DEVICE void norm_strip(const Worker& worker, int64_t strip, const NormGradientArgs& a) {
  const NormArgs& forward = a.forward;
  const int64_t width = forward.of_x.width;
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
      turn_back(worker, pairs, width, dy, [=](int64_t i, float g) { store(dx, i, g); });
      continue;
    }
    const float scale = forward.scale[row];
    const float product =
        sum_back(worker, pairs, width, dy, [=](int64_t i, float g) { return g * (weight[i] + plus) * load(x, i); });
    const float mean = product * scale * scale / static_cast<float>(width);
    // A feature is always the same thread's, so that nothing waits for zeros of others.
    const bool further = row > first;
    turn_back(worker, pairs, width, dy, [=](int64_t i, float g) {
      const float own = load(x, i);
      sums[i] = (further ? sums[i] : 0) + g * own * scale;
      store(dx, i, scale * (g * (weight[i] + plus) - own * mean));
    });
  }
}

using Still = Pairs<float, false>;

/** An item is a row, and a strip; of what turns, as many of them as a team has parts. */
template <class X, class Y>
DEVICE void norm(const Team& team, int64_t item, const NormArgs& a) {
  norm_row<X, Y, Still>(team, item, a);
}
template <class X, class Y>
DEVICE void norm_gradient(const Team& team, int64_t item, const NormGradientArgs& a) {
  norm_strip<X, Y, Still>(team, item, a);
}

DEVICE int64_t parts_from(int64_t first, int64_t all) { return all - first < kParts ? all - first : kParts; }

template <class X, class Turn>
DEVICE void heads(const Team& team, int64_t item, const NormArgs& a) {
  const int64_t first = item * kParts;
  team.split(parts_from(first, a.of_x.rows),
             [=](int64_t i, const auto& part) { norm_row<X, X, Turn>(part, first + i, a); });
}
template <class X, class Turn>
DEVICE void heads_gradient(const Team& team, int64_t item, const NormGradientArgs& a) {
  const int64_t first = item * kParts;
  team.split(parts_from(first, (a.forward.of_x.rows + a.height - 1) / a.height),
             [=](int64_t i, const auto& part) { norm_strip<X, X, Turn>(part, first + i, a); });
}

// Tables are as wide as what turns, or float32; "n": neighbours.
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
