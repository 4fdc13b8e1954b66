// Causal attention of documents in a row, in bfloat16 on a CPU with products for it (AVX512-BF16 or AMX), and its
// gradients:
//   revmoe::document_attention            o = softmax(q k' / sqrt(C)) v, and the logarithm L of each query's sum of
//                                         exponentials
//   revmoe::document_attention_gradient   gradients of q, k and v, from do, o and L
// The equations and the order of sums are those of FlashAttention-2 (src/layers/attention/tiled.ts); scores and sums
// are float32, factors of products bfloat16. Products are libtorch's small ones (cpublas::brgemm), all with the same
// sizes, for which oneDNN compiles code once; so documents are padded with rows of zeros. A thread takes a document's
// key head with all query heads that share it, so results do not depend on the number of threads. The operators exist
// only on CPUs where they can run.
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string_view>

#include "operators/launch.hpp"

#if defined(__x86_64__) && defined(CPUBLAS_BRGEMM_BF16BF16F32)

#include "operators/attention_tiles.hpp"

namespace revmoe {
namespace {

struct Sizes {
  int64_t heads, groups, width;
  int64_t shared() const { return heads / groups; }
  float scale() const { return static_cast<float>(1 / std::sqrt(static_cast<double>(width))); }
};

Sizes checked(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::IntArrayRef documents) {
  int64_t tokens = 0;
  for (const int64_t length : documents) {
    TORCH_CHECK(length >= 0, "a document has ", length, " tokens");
    tokens += length;
  }
  for (const at::Tensor* each : {&q, &k, &v}) {
    TORCH_CHECK(each->is_cpu() && each->scalar_type() == at::kBFloat16 && each->dim() == 3 && each->stride(2) == 1 &&
                    each->size(0) == tokens && each->size(2) == q.size(2),
                "attention takes heads in bfloat16 of all tokens of the documents");
  }
  TORCH_CHECK(
      k.size(1) > 0 && k.size(1) == v.size(1) && q.size(1) % k.size(1) == 0 && q.size(2) > 0 && q.size(2) % 16 == 0,
      "heads of queries and keys do not belong together");
  return {q.size(1), k.size(1), q.size(2)};
}

// Calls `work` for each key head of each document, with the document's first token and length, the head, and workspace.
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
                    // Rows after the end are zeros, so they add nothing, whatever their weights are.
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
  // As in launch.cpp, less than the CPU has may be asked for.
  const char* const wanted = std::getenv("REVMOE_CPU");
  if (wanted != nullptr && *wanted != '\0' && std::string_view(wanted) != "avx512") return;
  __builtin_cpu_init();
  // A CPU with AMX has this, too.
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
