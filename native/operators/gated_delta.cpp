// revmoe::gated_delta_ and revmoe::gated_delta_backward_: all that a layer with a gated delta rule does to a tile of
// tokens between its projections (native/kernels/delta*.h), forward, and backward with recomputation. Products are the
// BLAS's. On a CPU a thread takes a key head through all chunks, so that its data stays in the cache; on a GPU a launch
// takes all heads and, if possible, all chunks. The caller makes the workspace: src/torch/ops/delta.ts has its size.
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include <algorithm>

#include "experts/expert_groups.hpp"
#include "operators/delta_tile.hpp"

namespace revmoe {
namespace {

// Calls `work` with the first of some key heads and their number: on a CPU one at a time, distributed over the threads;
// elsewhere all at once.
void for_heads(int64_t heads, c10::Device device, const std::function<void(int64_t, int64_t)>& work) {
  if (!device.is_cpu()) return work(0, heads);
  const OneBlasThread guard;
  share_out(heads, [&](int64_t first, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView no_graph;
    for (int64_t head = first; head < end; head++) work(head, 1);
  });
}

constexpr int64_t kAligned = 128;

struct Call {
  DeltaArgs args{};
  at::ScalarType type;
  c10::Device device;

  Call(const at::Tensor& out, at::TensorList rows, at::TensorList weights, at::TensorList state, const at::Tensor& work,
       at::IntArrayRef places, at::IntArrayRef sizes, double epsilon, bool backward)
      : type(out.scalar_type()), device(out.device()) {
    TORCH_CHECK(out.dim() == 2 && out.size(0) > 0, "expected rows of tokens");
    TORCH_CHECK(sizes.size() == 6 && places.size() == 3 * kernels::kDeltaParts && weights.size() == 4 &&
                    state.size() == 2 && (type == at::kFloat || type == at::kBFloat16),
                "the lists do not belong together");
    DeltaSizes& s = args.sizes;
    s.tokens = out.size(0);
    s.key_heads = sizes[0];
    s.shared = sizes[1];
    s.key_width = sizes[2];
    s.value_width = sizes[3];
    s.taps = sizes[4];
    s.chunk = std::min(sizes[5], s.tokens);
    TORCH_CHECK(s.taps <= kernels::kDeltaMostTaps, "there is room for ", kernels::kDeltaMostTaps, " taps");
    const int64_t chunks = (s.tokens + s.chunk - 1) / s.chunk;
    s.slots = backward || !device.is_cpu() ? chunks : 1;
    check_dense(out, type, device);
    TORCH_CHECK(out.size(1) == s.heads() * s.value_width, "the output has another width");
    args.rows = rows_of(rows, places);
    const int64_t wanted[] = {s.taps * s.channels(), s.heads(), s.heads(), s.value_width};
    for (size_t i = 0; i < 4; i++) check_floats(weights[i], wanted[i]);
    args.taps = floats(weights[0]);
    args.decay_log = floats(weights[1]);
    args.decay_bias = floats(weights[2]);
    args.norm = floats(weights[3]);
    check_floats(state[0], (s.taps - 1) * s.channels());
    check_floats(state[1], s.key_heads * s.key_width * s.values());
    args.before = floats(state[0]);
    args.epsilon = static_cast<float>(epsilon);
    lay_out(work, backward);
  }

  static float* floats(const at::Tensor& t) { return static_cast<float*>(t.data_ptr()); }
  void check_floats(const at::Tensor& t, int64_t elements) const {
    check_dense(t, at::kFloat, device);
    TORCH_CHECK(t.numel() == elements, "expected ", elements, " elements, not ", t.numel());
  }

  kernels::DeltaRows rows_of(at::TensorList rows, at::IntArrayRef places) const {
    const DeltaSizes& s = args.sizes;
    kernels::DeltaRows made;
    for (int part = 0; part < kernels::kDeltaParts; part++) {
      const at::Tensor& of = rows.at(places[3 * part]);
      check_dense(of, type, device);
      const int64_t first = places[3 * part + 1], step = places[3 * part + 2];
      const int64_t width = part == kernels::kQuery || part == kernels::kKey    ? s.key_width
                            : part == kernels::kValue || part == kernels::kGate ? s.values()
                                                                                : s.shared;
      TORCH_CHECK(of.dim() == 2 && of.size(0) == s.tokens && first >= 0 &&
                      first + (s.key_heads - 1) * step + width <= of.size(1),
                  "the rows are of other sizes");
      made.at[part] = static_cast<char*>(of.data_ptr()) + first * of.element_size();
      made.row_step[part] = of.size(1);
      made.head_step[part] = step;
    }
    return made;
  }

  // Places in the workspace, in the order of DeltaWork.
  void lay_out(const at::Tensor& work, bool backward) {
    const DeltaSizes& s = args.sizes;
    kernels::DeltaWork& w = args.work;
    const int64_t n = s.chunk, by_key = s.key_heads * n, by_head = s.heads() * n;
    const int64_t state = s.key_heads * s.key_width * s.values();
    int64_t used = 0;
    const auto take = [&](float*& at, int64_t count) {
      at = floats(work) + used;
      used += (count + kAligned - 1) / kAligned * kAligned;
    };
    take(w.qk, s.slots * by_key * 2 * s.key_width);
    take(w.values, s.slots * by_key * s.values());
    take(w.gram, s.slots * by_key * 2 * n);
    take(w.within, s.slots * by_head * n);
    take(w.system, s.slots * by_head * n);
    take(w.read, s.slots * by_key * 2 * s.values());
    take(w.fresh, s.slots * by_head * s.value_width);
    take(w.left, s.slots * by_key * s.values());
    take(w.out, s.slots * by_head * s.value_width);
    for (float** at : {&w.rate, &w.sum, &w.grown, &w.fading}) take(*at, s.slots * by_head);
    take(w.unit, s.slots * by_key * 2);
    if (backward) {
      take(w.states, (s.slots - 1) * state);
      take(w.d_qk, s.slots * by_key * 2 * s.key_width);
      take(w.d_out, by_head * s.value_width);
      take(w.d_fresh, by_head * s.value_width);
      take(w.d_within, by_head * n);
      take(w.d_system, by_head * n);
      take(w.d_gram, by_key * 2 * n);
      take(w.d_left, by_key * s.values());
      for (float** at : {&w.d_sum, &w.d_fading, &w.d_rate}) take(*at, by_head);
      take(w.d_end, s.heads() * s.value_width);
      take(w.d_norm, s.heads() * s.value_width);
      take(w.d_before, (s.taps - 1) * s.channels());
    }
    check_floats(work, used);
  }
};

void gated_delta_(at::Tensor out, at::TensorList rows, at::TensorList weights, at::TensorList state,
                  const at::Tensor& work, at::IntArrayRef places, at::IntArrayRef sizes, double epsilon) {
  Call call(out, rows, weights, state, work, places, sizes, epsilon, /*backward=*/false);
  call.args.out = out.data_ptr();
  for_heads(sizes[0], call.device, [&](int64_t first, int64_t count) {
    DeltaTile(call.args, call.type, call.device).forward(first, count, Call::floats(state[1]));
  });
}

void gated_delta_backward_(at::TensorList d_rows, at::TensorList d_weights, at::TensorList d_state,
                           const at::Tensor& d_out, at::TensorList rows, at::TensorList weights, at::TensorList state,
                           const at::Tensor& work, at::IntArrayRef places, at::IntArrayRef sizes, double epsilon) {
  Call call(d_out, rows, weights, state, work, places, sizes, epsilon, /*backward=*/true);
  DeltaArgs& args = call.args;
  TORCH_CHECK(d_rows.size() == rows.size() && d_weights.size() == 4 && d_state.size() == 2,
              "the lists do not belong together");
  args.d_rows = call.rows_of(d_rows, places);
  for (size_t i = 0; i < 4; i++) call.check_floats(d_weights[i], weights[i].numel());
  args.d_taps = Call::floats(d_weights[0]);
  args.d_decay_log = Call::floats(d_weights[1]);
  args.d_decay_bias = Call::floats(d_weights[2]);
  for (size_t i = 0; i < 2; i++) call.check_floats(d_state[i], state[i].numel());
  args.d_after = Call::floats(d_state[0]);
  args.d_out = d_out.data_ptr();
  const DeltaSizes& s = args.sizes;
  const auto part_of_work = [&](const float* at, at::IntArrayRef size) {
    return work.flatten().narrow(0, at - Call::floats(work), c10::multiply_integers(size)).view(size);
  };
  at::Tensor d_norm = part_of_work(args.work.d_norm, {s.heads(), s.value_width});
  d_norm.zero_();
  for_heads(sizes[0], call.device, [&](int64_t first, int64_t count) {
    DeltaTile(args, call.type, call.device).backward(first, count, Call::floats(state[1]), Call::floats(d_state[1]));
  });
  at::Tensor(d_weights[3]).add_(d_norm.sum(0));
  at::Tensor(d_state[0]).copy_(part_of_work(args.work.d_before, d_state[0].sizes()));
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(revmoe, library) {
  library.def(
      "gated_delta_(Tensor(a!) out, Tensor[] rows, Tensor[] weights, Tensor(b!)[] state, Tensor(c!) work, int[] "
      "places, "
      "int[] sizes, float epsilon) -> ()",
      &gated_delta_);
  library.def(
      "gated_delta_backward_(Tensor(a!)[] d_rows, Tensor(b!)[] d_weights, Tensor(c!)[] d_state, Tensor d_out, Tensor[] "
      "rows, Tensor[] weights, Tensor[] state, Tensor(d!) work, int[] places, int[] sizes, float epsilon) -> ()",
      &gated_delta_backward_);
}

}  // namespace revmoe
