// The rows of a layer's experts, sorted by expert: which rows a product takes, which experts are computed at the same
// time, and products of one expert's rows.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <numeric>
#include <vector>

#include "core/table.hpp"

/** Whether cuBLAS of this libtorch can add products of 16-bit factors directly to float32 sums. */
#define REVMOE_WIDE_SUMS (REVMOE_TORCH >= 208)

namespace revmoe {

// With at least this many rows, a single product keeps all threads busy.
constexpr int64_t kManyRows = 512;

// oneDNN, which multiplies bfloat16 on a CPU, compiles code for each new number of rows, which takes the time of
// several products. So products include a few rows of their neighbours, to get only sixteen numbers to a doubling: at
// most a sixteenth more work.
inline int64_t steady_rows(int64_t rows) { return round_up_sixteenth<int64_t>(rows, 16); }

// The rows of an expert, and the span of rows that its products take: these and a few of the groups after it; at the
// end, of those before it.
struct Group {
  size_t expert;
  int64_t first;
  int64_t rows;
  int64_t span_first;
  int64_t span_rows;

  at::Tensor of(const at::Tensor& all) const { return all.narrow(0, first, rows); }
  at::Tensor span(const at::Tensor& all) const { return all.narrow(0, span_first, span_rows); }
  at::Tensor in_span(const at::Tensor& span) const { return span.narrow(0, first - span_first, rows); }

  // The span with zeros instead of the other groups' rows.
  at::Tensor alone(const at::Tensor& all) const {
    if (span_rows == rows) return of(all);
    at::Tensor padded = at::zeros({span_rows, all.size(1)}, all.options());
    in_span(padded).copy_(of(all));
    return padded;
  }
};

// The groups of rows in a tensor like x.
inline std::vector<Group> groups_of(const at::Tensor& x, at::IntArrayRef rows) {
  const bool steady = x.is_cpu() && x.element_size() == 2;
  const int64_t all = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  std::vector<Group> groups;
  int64_t first = 0;
  for (size_t expert = 0; expert < rows.size(); expert++) {
    const int64_t own = rows[expert];
    const int64_t wanted = steady ? steady_rows(own) : own;
    const int64_t span = wanted <= all ? wanted : own;
    if (own > 0) groups.push_back({expert, first, own, std::min(first, all - span), span});
    first += own;
  }
  return groups;
}

struct OneBlasThread {
  OneBlasThread() { set_blas_threads(1); }
  ~OneBlasThread() { set_blas_threads(at::get_num_threads()); }
};

// at::parallel_for is compiled in its caller, so it would need libtorch's own OpenMP here; TensorIterator was compiled
// with it.
inline void on_all_threads(const std::function<void()>& work) {
  at::Tensor one_each = at::empty({at::get_num_threads()}, at::kByte);
  at::TensorIterator::nullary_op(one_each).for_each([&](char**, const int64_t*, int64_t) { work(); }, /*grain_size=*/1);
}

inline bool is_small(const Group& group) { return group.rows < kManyRows; }

// Whether a product into a given tensor needs no workspace.
inline bool without_workspace(const at::Tensor& tensor) {
  return tensor.is_cpu() && (tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kDouble);
}

// How many groups are computed at the same time: one for each thread if `together` and if enough of them are small.
inline size_t places_for(const std::vector<Group>& groups, bool together) {
  const auto threads = static_cast<size_t>(at::get_num_threads());
  const auto small = static_cast<size_t>(std::count_if(groups.begin(), groups.end(), is_small));
  return together && small >= threads ? threads : 1;
}

// Calls `work` for every group, with a place that no other group has at that time; large groups come first, each alone.
inline void for_each(const std::vector<Group>& groups, size_t places,
                     const std::function<void(const Group&, size_t)>& work) {
  if (places == 1) {
    for (const Group& group : groups) work(group, 0);
    return;
  }
  std::vector<Group> small;
  for (const Group& group : groups) {
    if (is_small(group)) {
      small.push_back(group);
    } else {
      work(group, 0);
    }
  }
  std::stable_sort(small.begin(), small.end(), [](const Group& a, const Group& b) { return a.rows > b.rows; });
  const OneBlasThread guard;
  std::atomic<size_t> next{0};
  std::atomic<size_t> next_place{0};
  on_all_threads([&] {
    const at::NoGradGuard no_grad;
    const size_t place = next_place++;
    for (size_t i = next++; i < small.size(); i = next++) work(small[i], place);
  });
}

inline void multiply(const at::Tensor& into, const at::Tensor& a, const at::Tensor& b) {
  at::Tensor out = into;
  at::mm_out(out, a, b);
}

// Writes a group's rows of a b. It may write over rows of later groups, which are written later, because groups come in
// order.
inline void multiply_rows(const Group& group, const at::Tensor& into, const at::Tensor& a, const at::Tensor& b) {
  if (group.span_first == group.first) {
    multiply(group.span(into), group.span(a), b);
  } else {
    group.of(into).copy_(group.in_span(group.span(a).mm(b)));
  }
}

}  // namespace revmoe
