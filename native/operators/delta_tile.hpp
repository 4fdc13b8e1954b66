// A tile of tokens of a layer with a gated delta rule, for some of its key heads: the sequence of kernels and products,
// forward and backward.
#pragma once
#include <algorithm>

#include "kernels/delta_chunks.h"
#include "kernels/delta_inputs.h"
#include "kernels/delta_outputs.h"
#include "operators/launch.hpp"
#include "operators/matrices.hpp"

namespace revmoe {

using kernels::DeltaArgs;
using kernels::DeltaSizes;
using kernels::Kernel;

// A kernel for rows of float32, and one for rows of bfloat16.
struct OfRows {
  const Kernel &of_float, &of_bfloat16;
};
#define REVMOE_OF_ROWS(name) \
  OfRows { kernels::name##_float, kernels::name##_bfloat16 }

class DeltaTile {
 public:
  DeltaTile(const DeltaArgs& args, at::ScalarType type, c10::Device device)
      : args_(args), s_(args_.sizes), w_(args_.work), type_(type), device_(device) {}

  int64_t chunks() const { return (s_.tokens + s_.chunk - 1) / s_.chunk; }

  // For some key heads: the output, and the state in place.
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
  // Matrices by key head or by value head, from the chunk's slot on; without a slot, those of the scratch memory.
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

  // Goes through all chunks; equal ones may be prepared together.
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

}  // namespace revmoe
