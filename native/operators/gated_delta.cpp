// revmoe::gated_delta_ and revmoe::gated_delta_backward_: all that a layer with a gated delta rule does to a tile of tokens between its
// projections (native/kernels/delta*.h), forward, and back with what is computed again. Products are the BLAS's. On a CPU a thread takes a
// head of keys through all chunks, so that its parts stay in the cache; on a GPU a launch takes all heads, and where it can all chunks.
// Workspace is the caller's: src/torch/ops/delta.ts says how much.
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include <algorithm>

#include "experts/expert_groups.hpp"
#include "kernels/delta_chunks.h"
#include "kernels/delta_inputs.h"
#include "kernels/delta_outputs.h"
#include "operators/launch.hpp"

namespace revmoe {
namespace {

using kernels::DeltaArgs;
using kernels::DeltaSizes;
using kernels::Kernel;

// Matrices of float32, so many elements one behind the other, whose rows are so far apart.
struct Matrices {
  float* at;
  int64_t step, rows, columns, row_step;
  bool transposed = false;

  Matrices t() const { return {at, step, rows, columns, row_step, !transposed}; }
  at::Tensor tensor(int64_t count, c10::Device device) const {
    const auto options = at::TensorOptions(at::kFloat).device(device);
    if (count == 0) {
      const at::Tensor one = at::from_blob(at, {rows, columns}, {row_step, 1}, options);
      return transposed ? one.t() : one;
    }
    const at::Tensor all = at::from_blob(at, {count, rows, columns}, {step, row_step, 1}, options);
    return transposed ? all.transpose(1, 2) : all;
  }
  Matrices of(int64_t i) const { return {at + i * step, step, rows, columns, row_step, transposed}; }
};

enum class Sum { kNone, kAdd };

// `count` products, into or added to `into`.
void multiply(int64_t count, const Matrices& into, const Matrices& a, const Matrices& b, Sum sum, c10::Device device) {
  if (!device.is_cpu()) {
    at::Tensor out = into.tensor(count, device);
    const at::Tensor left = a.tensor(count, device), right = b.tensor(count, device);
    if (sum == Sum::kAdd) {
      at::baddbmm_out(out, out, left, right);
    } else {
      at::bmm_out(out, left, right);
    }
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    at::Tensor out = into.of(i).tensor(0, device);
    const at::Tensor left = a.of(i).tensor(0, device), right = b.of(i).tensor(0, device);
    if (sum == Sum::kAdd) {
      at::addmm_out(out, out, left, right);
    } else {
      at::mm_out(out, left, right);
    }
  }
}

// A kernel for rows of float32 and one for rows of bfloat16.
struct OfRows {
  const Kernel &of_float, &of_bfloat16;
};
#define REVMOE_OF_ROWS(name) \
  OfRows { kernels::name##_float, kernels::name##_bfloat16 }

class Tile {
 public:
  Tile(const DeltaArgs& args, at::ScalarType type, c10::Device device)
      : args_(args), s_(args_.sizes), w_(args_.work), type_(type), device_(device) {}

  int64_t chunks() const { return (s_.tokens + s_.chunk - 1) / s_.chunk; }

  // Of heads of keys: the output, and the state, in place.
  void forward(int64_t first_key, int64_t keys, float* state) {
    heads(first_key, keys);
    through([&](int64_t) { return state; }, [&](int64_t) { return state; }, /*outputs=*/true);
    s_.chunks = 1;
    run(REVMOE_OF_ROWS(delta_after), keys);
  }

  // The gradients of rows and weights, and that of the state in place.
  void backward(int64_t first_key, int64_t keys, const float* state, float* d_state) {
    heads(first_key, keys);
    const int64_t each = s_.key_heads * s_.key_width * s_.values();
    const auto before = [&](int64_t chunk) {
      return chunk == 0 ? const_cast<float*>(state) : w_.states + (chunk - 1) * each;
    };
    through(
        before, [&](int64_t chunk) { return chunk + 1 < chunks() ? before(chunk + 1) : nullptr; },
        /*outputs=*/false);
    for (int64_t chunk = chunks() - 1; chunk >= 0; chunk--) back(chunk, before(chunk), d_state);
    s_.chunks = 1;
    run(REVMOE_OF_ROWS(delta_convolve_back), (s_.tokens + s_.taps - 1) * keys);
    run(REVMOE_OF_ROWS(delta_taps_back), s_.taps * keys);
  }

 private:
  DeltaArgs args_;
  DeltaSizes& s_;
  kernels::DeltaWork& w_;
  at::ScalarType type_;
  c10::Device device_;

  void heads(int64_t first_key, int64_t keys) {
    s_.first_key = first_key;
    s_.keys = keys;
  }
  void range(int64_t first_chunk, int64_t chunks) {
    s_.first_chunk = first_chunk;
    s_.chunks = chunks;
    s_.size = std::min(s_.chunk, s_.tokens - first_chunk * s_.chunk);
  }
  void run(const Kernel& kernel, int64_t items) { launch(kernel, args_, items, device_); }
  void run(const OfRows& kernel, int64_t items) {
    run(type_ == at::kFloat ? kernel.of_float : kernel.of_bfloat16, items);
  }
  void product(const Matrices& into, const Matrices& a, const Matrices& b, int64_t count, Sum sum = Sum::kNone) {
    multiply(count, into, a, b, sum, device_);
  }
  // By head of keys or of values, those of the chunk's slot first; without a slot, those of the scratch.
  Matrices by_key(float* at, bool kept, int64_t rows, int64_t columns, int64_t row_step, int64_t rows_of_chunk) const {
    const int64_t step = rows_of_chunk * s_.chunk * row_step;
    const int64_t slot = kept ? s_.slot(s_.first_chunk) * s_.key_heads : 0;
    return {at + (slot + s_.first_key) * step, step, rows, columns, row_step};
  }
  Matrices by_head(float* at, bool kept, int64_t columns, int64_t row_step) const {
    const int64_t step = s_.chunk * row_step;
    const int64_t slot = kept ? s_.slot(s_.first_chunk) * s_.heads() : 0;
    return {at + (slot + s_.first_key * s_.shared) * step, step, s_.size, columns, row_step};
  }
  Matrices both(float* at) const { return by_key(at, true, 2 * s_.size, s_.key_width, s_.key_width, 2); }
  Matrices keys(float* at) const {
    const Matrices all = both(at);
    return {all.at + s_.size * s_.key_width, all.step, s_.size, s_.key_width, s_.key_width};
  }
  Matrices read() const { return by_key(w_.read, true, 2 * s_.size, s_.values(), s_.values(), 2); }
  Matrices state(float* at) const {
    const int64_t step = s_.key_width * s_.values();
    return {at + s_.first_key * step, step, s_.key_width, s_.values(), s_.values()};
  }
  Matrices tokens(float* at, bool kept) const { return by_key(at, kept, s_.size, s_.values(), s_.values(), 1); }

  // All chunks; those that are alike may be prepared together.
  template <class Before, class After>
  void through(const Before& before, const After& after, bool outputs) {
    const int64_t full = s_.tokens / s_.chunk;
    for (int64_t first = 0; first < chunks();) {
      const int64_t count = first < full ? std::min(s_.slots, full - first) : 1;
      prepare(first, device_.is_cpu() ? 1 : count);
      const int64_t end = first + s_.chunks;
      for (int64_t chunk = first; chunk < end; chunk++) {
        range(chunk, 1);
        advance(before(chunk), after(chunk));
      }
      range(first, end - first);
      if (outputs) run(REVMOE_OF_ROWS(delta_outputs), s_.chunks * s_.keys * s_.size * s_.shared);
      first = end;
    }
  }

  void prepare(int64_t first, int64_t count) {
    range(first, count);
    run(REVMOE_OF_ROWS(delta_inputs), count * s_.keys * s_.size);
    product(by_key(w_.gram, true, 2 * s_.size, s_.size, s_.chunk, 2), both(w_.qk), keys(w_.qk).t(), count * s_.keys);
    run(kernels::delta_within_chunk, count * s_.keys * s_.shared);
  }

  void advance(float* before, float* after) {
    product(read(), both(w_.qk), state(before), s_.keys);
    const kernels::DeltaStep step{args_, before, after};
    launch(kernels::delta_solve_chunk, step, s_.keys * s_.shared, device_);
    product(by_head(w_.out, true, s_.value_width, s_.value_width), by_head(w_.within, true, s_.size, s_.chunk),
            by_head(w_.fresh, true, s_.value_width, s_.value_width), s_.keys * s_.shared, Sum::kAdd);
    if (after != nullptr) product(state(after), keys(w_.qk).t(), tokens(w_.left, true), s_.keys, Sum::kAdd);
  }

  void back(int64_t chunk, float* before, float* d_state) {
    range(chunk, 1);
    const int64_t heads = s_.keys * s_.shared, rows = s_.keys * s_.size;
    const auto values = [&](float* at, bool kept) { return by_head(at, kept, s_.value_width, s_.value_width); };
    const auto pairs = [&](float* at, bool kept) { return by_head(at, kept, s_.size, s_.chunk); };
    run(REVMOE_OF_ROWS(delta_outputs_back), rows * s_.shared);
    run(kernels::delta_norm_back_chunk, heads);
    product(tokens(w_.d_left, false), keys(w_.qk), state(d_state), s_.keys);
    run(kernels::delta_fresh_back_chunk, rows * s_.shared);
    product(keys(w_.d_qk), tokens(w_.left, true), state(d_state).t(), s_.keys);
    product(values(w_.d_fresh, false), pairs(w_.within, true).t(), values(w_.d_out, false), heads, Sum::kAdd);
    product(pairs(w_.d_within, false), values(w_.d_out, false), values(w_.fresh, true).t(), heads);
    const kernels::DeltaStep step{args_, before, d_state};
    launch(kernels::delta_solve_back_chunk, step, heads, device_);
    product(pairs(w_.d_system, false), values(w_.d_fresh, false), values(w_.fresh, true).t(), heads);
    run(kernels::delta_read_back_chunk, rows * s_.shared);
    product(both(w_.d_qk), read(), state(before).t(), s_.keys, Sum::kAdd);
    product(state(d_state), both(w_.qk).t(), read(), s_.keys, Sum::kAdd);
    run(kernels::delta_within_back_chunk, rows);
    const Matrices d_gram = by_key(w_.d_gram, false, 2 * s_.size, s_.size, s_.chunk, 2);
    product(both(w_.d_qk), d_gram, keys(w_.qk), s_.keys, Sum::kAdd);
    product(keys(w_.d_qk), d_gram.t(), both(w_.qk), s_.keys, Sum::kAdd);
    run(REVMOE_OF_ROWS(delta_gates_back), heads);
    run(REVMOE_OF_ROWS(delta_inputs_back), rows);
  }
};

// Calls `work` with the first of some heads of keys and how many: one each on a CPU, shared out among the threads, and all at once elsewhere.
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
    Tile(call.args, call.type, call.device).forward(first, count, Call::floats(state[1]));
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
    Tile(args, call.type, call.device).backward(first, count, Call::floats(state[1]), Call::floats(d_state[1]));
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
