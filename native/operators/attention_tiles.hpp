// Tiles of attention in bfloat16 (attention.cpp): a thread's workspace, rows packed as the processor multiplies them,
// weights from scores, and gradients of scores. Everything belongs to one thread.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <cmath>

#include "kernels/numbers.h"

// The target of loops. Products and sums are never fused, so that bits do not depend on the compiler's choice.
#define REVMOE_WIDE __attribute__((target("arch=x86-64-v4"), optimize("O3", "fp-contract=off", "no-trapping-math")))

namespace revmoe {
namespace {

using kernels::bfloat16;

// Number of queries, and of keys, in a tile of scores.
constexpr int64_t kTile = 128;
constexpr float kLeast = -3.4028235e38f;

int64_t padded(int64_t tokens) { return (tokens + kTile - 1) / kTile * kTile; }

// A head's rows [T, C].
struct Rows {
  bfloat16* at;
  int64_t stride;
  bfloat16* row(int64_t token) const { return at + token * stride; }
};

Rows rows_of(const at::Tensor& t_THC, int64_t first, int64_t head) {
  return {static_cast<bfloat16*>(t_THC.data_ptr()) + first * t_THC.stride(0) + head * t_THC.stride(1), t_THC.stride(0)};
}

// A thread's workspace, handed out from its start.
class Space {
 public:
  explicit Space(char* at) : at_(at) {}
  template <class T>
  T* take(int64_t count) {
    char* const own = at_;
    at_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return reinterpret_cast<T*>(own);
  }
  int64_t taken(const char* start) const { return at_ - start; }

 private:
  char* at_;
};

struct ForwardSpace {
  bfloat16 *keys, *values, *queries, *weights;
  float *scores, *out, *most, *sums;
  ForwardSpace(Space& space, int64_t tokens, int64_t width)
      : keys(space.take<bfloat16>(tokens * width)),
        values(space.take<bfloat16>(tokens * width)),
        queries(space.take<bfloat16>(kTile * width)),
        weights(space.take<bfloat16>(kTile * kTile)),
        scores(space.take<float>(kTile * kTile)),
        out(space.take<float>(kTile * width)),
        most(space.take<float>(kTile)),
        sums(space.take<float>(kTile)) {}
};

struct GradientSpace {
  bfloat16 *queries, *query_pairs, *d_out, *d_out_pairs, *keys, *turned_keys, *values, *weights, *d_scores,
      *d_score_pairs;
  float *scores, *d_weights, *dq, *dk, *dv, *sums, *inner;
  GradientSpace(Space& space, int64_t tokens, int64_t width)
      : queries(space.take<bfloat16>(tokens * width)),
        query_pairs(space.take<bfloat16>(tokens * width)),
        d_out(space.take<bfloat16>(tokens * width)),
        d_out_pairs(space.take<bfloat16>(tokens * width)),
        keys(space.take<bfloat16>(kTile * width)),
        turned_keys(space.take<bfloat16>(kTile * width)),
        values(space.take<bfloat16>(kTile * width)),
        weights(space.take<bfloat16>(kTile * kTile)),
        d_scores(space.take<bfloat16>(kTile * kTile)),
        d_score_pairs(space.take<bfloat16>(kTile * kTile)),
        scores(space.take<float>(kTile * kTile)),
        d_weights(space.take<float>(kTile * kTile)),
        dq(space.take<float>(tokens * width)),
        dk(space.take<float>(tokens * width)),
        dv(space.take<float>(tokens * width)),
        sums(space.take<float>(tokens)),
        inner(space.take<float>(tokens)) {}
};

// c = a b, or += it, with b in pairs of rows, as the processor needs them.
void multiply(int64_t rows, int64_t columns, int64_t inner, const bfloat16* a, const bfloat16* b, int64_t b_columns,
              float* c, int64_t c_columns, bool add) {
  const auto* const left = reinterpret_cast<const at::BFloat16*>(a);
  const auto* const right = reinterpret_cast<const at::BFloat16*>(b);
  at::native::cpublas::brgemm(rows, columns, inner, inner, b_columns, c_columns, add, left, right, c);
}

// Copies `count` rows, and adds zeros up to `all` rows.
REVMOE_WIDE void copy_rows(const Rows& from, int64_t count, int64_t all, int64_t width, bfloat16* into) {
  for (int64_t i = 0; i < count; i++) std::copy_n(from.row(i), width, into + i * width);
  std::fill_n(into + count * width, (all - count) * width, bfloat16{0});
}

// [all / 2, width, 2]: the elements of two rows alternate.
REVMOE_WIDE void pair_rows(const Rows& from, int64_t count, int64_t all, int64_t width, bfloat16* into) {
  auto* const words = reinterpret_cast<uint32_t*>(into);
  for (int64_t i = 0; i < all; i += 2) {
    uint32_t* const out = words + i / 2 * width;
    const bfloat16* const even = from.row(std::min(i, count - 1));
    const bfloat16* const odd = from.row(std::min(i + 1, count - 1));
    const uint32_t low = i < count ? 0xffffu : 0, high = i + 1 < count ? 0xffff0000u : 0;
    for (int64_t c = 0; c < width; c++)
      out[c] = (even[c].bits & low) | ((static_cast<uint32_t>(odd[c].bits) << 16) & high);
  }
}

// [width / 2, all, 2]: the same for the transposed rows.
REVMOE_WIDE void pair_columns(const Rows& from, int64_t count, int64_t all, int64_t width, bfloat16* into) {
  auto* const words = reinterpret_cast<uint32_t*>(into);
  constexpr int64_t kBlock = 16;
  for (int64_t first = 0; first < all; first += kBlock) {
    uint32_t block[kBlock][64];
    for (int64_t half = 0; half < width / 2; half += 64) {
      const int64_t some = std::min<int64_t>(64, width / 2 - half);
      for (int64_t i = 0; i < kBlock; i++) {
        if (first + i < count) {
          __builtin_memcpy(block[i], from.row(first + i) + 2 * half, static_cast<size_t>(some) * sizeof(uint32_t));
        } else {
          std::fill_n(block[i], some, 0u);
        }
      }
      for (int64_t c = 0; c < some; c++) {
        uint32_t* const out = words + (half + c) * all + first;
        for (int64_t i = 0; i < kBlock; i++) out[i] = block[i][c];
      }
    }
  }
}

// [width, kTile] from rows [kTile, width].
REVMOE_WIDE void turn(const bfloat16* rows, int64_t width, bfloat16* into) {
  constexpr int64_t kBlock = 32;
  for (int64_t first = 0; first < kTile; first += kBlock) {
    for (int64_t c = 0; c < width; c++) {
      for (int64_t i = 0; i < kBlock; i++) into[c * kTile + first + i] = rows[(first + i) * width + c];
    }
  }
}

// Adds 32 partial sums side by side.
template <class F>
inline __attribute__((always_inline)) float sum_of(int64_t n, F f) {
  return kernels::Team().sum<float>(n, f);
}

// exp(S - most) of a tile's rows; the first row sees `seen` keys, and each further row one more. Everything so far is
// rescaled to the new maximum.
REVMOE_WIDE void weigh(const ForwardSpace& of, int64_t width, int64_t seen, float scale) {
  const kernels::Team team;
  for (int64_t row = 0; row < kTile; row++) {
    const float* const scores = of.scores + row * kTile;
    bfloat16* const weights = of.weights + row * kTile;
    const int64_t count = std::min(kTile, seen + row);
    const float before = of.most[row];
    const float most = team.most<float>(count, before, [=](int64_t i) { return scores[i] * scale; });
    const float shrink = kernels::exponential_down(before - most);
    const float sum = sum_of(count, [=](int64_t i) {
      const float weight = kernels::exponential_down(scores[i] * scale - most);
      kernels::store(weights, i, weight);
      return weight;
    });
    std::fill_n(weights + count, kTile - count, bfloat16{0});
    of.most[row] = most;
    of.sums[row] = of.sums[row] * shrink + sum;
    float* const out = of.out + row * width;
    for (int64_t c = 0; c < width; c++) out[c] *= shrink;
  }
}

// P' = exp(S' - L) and dS' = P' (dP' - D) of a tile whose rows are keys: as rows, and dS' in pairs of rows, too. On the
// diagonal, queries from i on see key i.
REVMOE_WIDE void differentiate(const GradientSpace& of, int64_t first_query, bool diagonal, float scale) {
  const float *const sums = of.sums + first_query, *const inner = of.inner + first_query;
  for (int64_t key = 0; key < kTile; key += 2) {
    auto* const pairs = reinterpret_cast<uint32_t*>(of.d_score_pairs) + key / 2 * kTile;
    for (int64_t odd = 0; odd < 2; odd++) {
      const int64_t at = (key + odd) * kTile, from = diagonal ? key + odd : 0;
      const float *const scores = of.scores + at, *const d_weights = of.d_weights + at;
      bfloat16 *const weights = of.weights + at, *const d_scores = of.d_scores + at;
#pragma GCC ivdep
      for (int64_t i = 0; i < kTile; i++) {
        const float down = scores[i] * scale - sums[i];
        const float power = kernels::exponential_down(down > 0 ? 0 : down);
        const float weight = i < from ? 0.0f : power;
        kernels::store(weights, i, weight);
        kernels::store(d_scores, i, weight * (d_weights[i] - inner[i]));
      }
    }
    const bfloat16 *const even = of.d_scores + key * kTile, *const odd = even + kTile;
#pragma GCC ivdep
    for (int64_t i = 0; i < kTile; i++) pairs[i] = even[i].bits | (static_cast<uint32_t>(odd[i].bits) << 16);
  }
}

REVMOE_WIDE void write_out(const ForwardSpace& of, int64_t count, int64_t width, const Rows& out, float* sums) {
  for (int64_t row = 0; row < count; row++) {
    const float *const from = of.out + row * width, share = 1 / of.sums[row];
    bfloat16* const into = out.row(row);
    for (int64_t c = 0; c < width; c++) kernels::store(into, c, from[c] * share);
    sums[row] = of.most[row] + std::log(of.sums[row]);
  }
}

REVMOE_WIDE void inner_products(const Rows& a, const Rows& b, int64_t count, int64_t width, float* into) {
  for (int64_t i = 0; i < count; i++) {
    const bfloat16 *const x = a.row(i), *const y = b.row(i);
    into[i] = sum_of(width, [=](int64_t c) { return kernels::load(x, c) * kernels::load(y, c); });
  }
}

REVMOE_WIDE void write_rows(const float* from, int64_t row_stride, int64_t column_stride, int64_t count, int64_t width,
                            float scale, const Rows& into) {
  for (int64_t i = 0; i < count; i++) {
    bfloat16* const row = into.row(i);
    for (int64_t c = 0; c < width; c++) kernels::store(row, c, from[i * row_stride + c * column_stride] * scale);
  }
}

}  // namespace
}  // namespace revmoe
