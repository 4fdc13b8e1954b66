// Causal attention of documents one behind the other, in bfloat16 on a CPU that multiplies it (AVX512-BF16 or AMX), and its gradients:
//   revmoe::document_attention            o = softmax(q k' / sqrt(C)) v, and the logarithm L of each query's sum of exponentials
//   revmoe::document_attention_gradient   of q, k and v, from do, o and L
// The equations and the order of sums are those of FlashAttention-2 (src/layers/attention/tiled.ts); scores, sums and what is added up are float32,
// factors of products bfloat16. Products go through libtorch's small ones (cpublas::brgemm), of one size each, for which oneDNN writes
// code once: documents end with rows of zeros. A thread takes a document's head of keys with all heads of queries that
// share it, so that results know nothing of the number of threads. The operators exist only where they can run.
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>

#include "kernels/numbers.h"
#include "operators/launch.hpp"

#if defined(__x86_64__) && defined(CPUBLAS_BRGEMM_BF16BF16F32)

// What a loop is compiled for. Products and sums are fused nowhere, so that bits do not follow the compiler's choice.
#define REVMOE_WIDE __attribute__((target("arch=x86-64-v4"), optimize("O3", "fp-contract=off", "no-trapping-math")))

namespace revmoe {
namespace {

using kernels::bfloat16;

// Queries and keys of a tile of scores.
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

// A thread's workspace, given out from its start.
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

// c = a b, or += it: b in pairs of rows, as the processor takes them.
void multiply(int64_t rows, int64_t columns, int64_t inner, const bfloat16* a, const bfloat16* b, int64_t b_columns,
              float* c, int64_t c_columns, bool add) {
  const auto* const left = reinterpret_cast<const at::BFloat16*>(a);
  const auto* const right = reinterpret_cast<const at::BFloat16*>(b);
  at::native::cpublas::brgemm(rows, columns, inner, inner, b_columns, c_columns, add, left, right, c);
}

// Rows as they are, with zeros behind `count` of them up to `all`.
REVMOE_WIDE void copy_rows(const Rows& from, int64_t count, int64_t all, int64_t width, bfloat16* into) {
  for (int64_t i = 0; i < count; i++) std::copy_n(from.row(i), width, into + i * width);
  std::fill_n(into + count * width, (all - count) * width, bfloat16{0});
}

// [all / 2, width, 2]: two rows element by element in turn.
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

// [width / 2, all, 2]: the same of the transposed rows.
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

// [width, kTile] of rows [kTile, width].
REVMOE_WIDE void turn(const bfloat16* rows, int64_t width, bfloat16* into) {
  constexpr int64_t kBlock = 32;
  for (int64_t first = 0; first < kTile; first += kBlock) {
    for (int64_t c = 0; c < width; c++) {
      for (int64_t i = 0; i < kBlock; i++) into[c * kTile + first + i] = rows[(first + i) * width + c];
    }
  }
}

// Sums side by side: 32 at a time.
template <class F>
inline __attribute__((always_inline)) float sum_of(int64_t n, F f) {
  return kernels::Team().sum<float>(n, f);
}

// exp(S - most) of a tile's rows, which see `seen` keys and one more each, and everything so far brought to the new maximum.
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

// P' = exp(S' - L) and dS' = P' (dP' - D) of a tile whose rows are keys: as rows, and dS' in pairs of rows, too. On the diagonal, key i is seen from query i on.
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

struct Sizes {
  int64_t heads, groups, width;
  int64_t shared() const { return heads / groups; }
  float scale() const { return static_cast<float>(1 / std::sqrt(static_cast<double>(width))); }
};

Sizes checked(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::IntArrayRef documents) {
  int64_t tokens = 0;
  for (const int64_t length : documents) tokens += length;
  for (const at::Tensor* each : {&q, &k, &v}) {
    TORCH_CHECK(each->is_cpu() && each->scalar_type() == at::kBFloat16 && each->dim() == 3 && each->stride(2) == 1 &&
                    each->size(0) == tokens && each->size(2) == q.size(2),
                "attention takes heads in bfloat16 of all tokens of the documents");
  }
  TORCH_CHECK(k.size(1) == v.size(1) && q.size(1) % k.size(1) == 0 && q.size(2) % 16 == 0,
              "heads of queries and keys do not belong together");
  return {q.size(1), k.size(1), q.size(2)};
}

// Calls `work` with a document's first token and length, a head of keys, and workspace, for every one of them.
void for_each_head(at::IntArrayRef documents, int64_t groups, int64_t bytes,
                   const std::function<void(int64_t first, int64_t length, int64_t group, char* space)>& work) {
  const auto count = static_cast<int64_t>(documents.size()) * groups;
  if (count == 0) return;
  const int64_t places = std::min<int64_t>(at::get_num_threads(), count);
  const at::Tensor space = at::empty({places, bytes}, at::kByte);
  std::vector<int64_t> starts;
  int64_t tokens = 0;
  for (const int64_t length : documents) {
    starts.push_back(tokens);
    tokens += length;
  }
  std::atomic<int64_t> next{0};
  share_out(count, [&](int64_t first, int64_t end) {
    char* const own = static_cast<char*>(space.data_ptr()) + next++ * bytes;
    for (int64_t item = first; item < end; item++) {
      const auto document = static_cast<size_t>(item / groups);
      if (documents[document] > 0) work(starts[document], documents[document], item % groups, own);
    }
    at::native::cpublas::brgemm_release();
  });
}

template <class Of>
int64_t bytes_for(at::IntArrayRef documents, int64_t width) {
  const int64_t longest = documents.empty() ? 0 : *std::max_element(documents.begin(), documents.end());
  Space space(nullptr);
  Of(space, padded(longest), width);
  return space.taken(nullptr);
}

std::tuple<at::Tensor, at::Tensor> document_attention(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                                                      const at::Tensor& v_TKC, at::IntArrayRef documents) {
  const Sizes sizes = checked(q_THC, k_TKC, v_TKC, documents);
  const int64_t width = sizes.width, tokens = q_THC.size(0);
  const at::Tensor out_THC = at::empty(q_THC.sizes(), q_THC.options());
  const at::Tensor sums_HT = at::empty({sizes.heads, tokens}, q_THC.options().dtype(at::kFloat));
  auto* const sums = static_cast<float*>(sums_HT.data_ptr());
  for_each_head(documents, sizes.groups, bytes_for<ForwardSpace>(documents, width),
                [&](int64_t first, int64_t length, int64_t group, char* start) {
                  const int64_t all = padded(length);
                  Space space(start);
                  const ForwardSpace of(space, all, width);
                  pair_columns(rows_of(k_TKC, first, group), length, all, width, of.keys);
                  pair_rows(rows_of(v_TKC, first, group), length, all, width, of.values);
                  for (int64_t head = group * sizes.shared(); head < (group + 1) * sizes.shared(); head++) {
                    for (int64_t row = 0; row < length; row += kTile) {
                      const int64_t rows = std::min(kTile, length - row);
                      copy_rows(rows_of(q_THC, first + row, head), rows, kTile, width, of.queries);
                      std::fill_n(of.out, kTile * width, 0.0f);
                      std::fill_n(of.most, kTile, kLeast);
                      std::fill_n(of.sums, kTile, 0.0f);
                      for (int64_t key = 0; key <= row; key += kTile) {
                        multiply(kTile, kTile, width, of.queries, of.keys + 2 * key, all, of.scores, kTile, false);
                        weigh(of, width, key == row ? 1 : kTile, sizes.scale());
                        multiply(kTile, width, kTile, of.weights, of.values + key * width, width, of.out, width, true);
                      }
                      write_out(of, rows, width, rows_of(out_THC, first + row, head),
                                sums + head * tokens + first + row);
                    }
                  }
                });
  return {out_THC, sums_HT};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> document_attention_gradient(
    const at::Tensor& d_out, const at::Tensor& q_THC, const at::Tensor& k_TKC, const at::Tensor& v_TKC,
    const at::Tensor& out_THC, const at::Tensor& sums_HT, at::IntArrayRef documents) {
  const Sizes sizes = checked(q_THC, k_TKC, v_TKC, documents);
  const int64_t width = sizes.width, tokens = q_THC.size(0);
  const at::Tensor d_out_THC = d_out.contiguous();
  check_dense(d_out_THC, at::kBFloat16, at::kCPU);
  check_dense(out_THC, at::kBFloat16, at::kCPU);
  check_dense(sums_HT, at::kFloat, at::kCPU);
  TORCH_CHECK(
      d_out.sizes() == q_THC.sizes() && out_THC.sizes() == q_THC.sizes() && sums_HT.numel() == sizes.heads * tokens,
      "what attention returned was of other sizes");
  const at::Tensor dq = at::empty(q_THC.sizes(), q_THC.options()), dk = at::empty(k_TKC.sizes(), k_TKC.options());
  const at::Tensor dv = at::empty(v_TKC.sizes(), v_TKC.options());
  const auto* const sums = static_cast<const float*>(sums_HT.data_ptr());
  for_each_head(documents, sizes.groups, bytes_for<GradientSpace>(documents, width),
                [&](int64_t first, int64_t length, int64_t group, char* start) {
                  const int64_t all = padded(length);
                  Space space(start);
                  const GradientSpace of(space, all, width);
                  for (float* const each : {of.dk, of.dv}) std::fill_n(each, all * width, 0.0f);
                  for (int64_t head = group * sizes.shared(); head < (group + 1) * sizes.shared(); head++) {
                    const Rows queries = rows_of(q_THC, first, head), d_outs = rows_of(d_out_THC, first, head);
                    pair_columns(queries, length, all, width, of.queries);
                    pair_rows(queries, length, all, width, of.query_pairs);
                    pair_columns(d_outs, length, all, width, of.d_out);
                    pair_rows(d_outs, length, all, width, of.d_out_pairs);
                    // Rows behind the end are zeros, of which nothing comes whatever their weights are.
                    std::fill_n(of.sums, all, 0.0f);
                    std::fill_n(of.inner, all, 0.0f);
                    std::copy_n(sums + head * tokens + first, length, of.sums);
                    inner_products(d_outs, rows_of(out_THC, first, head), length, width, of.inner);
                    std::fill_n(of.dq, all * width, 0.0f);
                    for (int64_t key = 0; key < length; key += kTile) {
                      const int64_t keys = std::min(kTile, length - key);
                      copy_rows(rows_of(k_TKC, first + key, group), keys, kTile, width, of.keys);
                      copy_rows(rows_of(v_TKC, first + key, group), keys, kTile, width, of.values);
                      turn(of.keys, width, of.turned_keys);
                      for (int64_t row = key; row < length; row += kTile) {
                        multiply(kTile, kTile, width, of.keys, of.queries + 2 * row, all, of.scores, kTile, false);
                        multiply(kTile, kTile, width, of.values, of.d_out + 2 * row, all, of.d_weights, kTile, false);
                        differentiate(of, row, row == key, sizes.scale());
                        multiply(kTile, width, kTile, of.weights, of.d_out_pairs + row * width, width,
                                 of.dv + key * width, width, true);
                        multiply(kTile, width, kTile, of.d_scores, of.query_pairs + row * width, width,
                                 of.dk + key * width, width, true);
                        multiply(width, kTile, kTile, of.turned_keys, of.d_score_pairs, kTile, of.dq + row, all, true);
                      }
                    }
                    write_rows(of.dq, 1, all, length, width, sizes.scale(), rows_of(dq, first, head));
                  }
                  write_rows(of.dk, width, 1, length, width, sizes.scale(), rows_of(dk, first, group));
                  write_rows(of.dv, width, 1, length, width, 1, rows_of(dv, first, group));
                });
  return {dq, dk, dv};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(revmoe, library) {
  __builtin_cpu_init();
  // Whoever has AMX has this, too.
  if (!__builtin_cpu_supports("x86-64-v4") || !__builtin_cpu_supports("avx512bf16")) return;
  library.def("document_attention(Tensor q, Tensor k, Tensor v, int[] documents) -> (Tensor out, Tensor sums)",
              &document_attention);
  library.def(
      "document_attention_gradient(Tensor d_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor sums, int[] "
      "documents) -> (Tensor dq, Tensor dk, Tensor dv)",
      &document_attention_gradient);
}

}  // namespace revmoe

#endif
