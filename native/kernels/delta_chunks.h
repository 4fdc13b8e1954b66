// The work between the products of the gated delta rule in chunks (equations in src/layers/attention/delta-rule.ts),
// forward and backward. S is the state before a chunk, G sums of decays, b rates: R = b (V - e^G K S) and (I + system)
// X = R; O = e^G Q S + within X; and S <- e^(G_last) S + K' Y with Y = e^(G_last - G) X. Items are value heads, or rows
// of one.
#pragma once
#include "delta.h"

namespace revmoe::kernels {
namespace {

/** Sums of decays, and the two matrices between a chunk's tokens. An item is a value head. */
DEVICE void delta_within(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const DeltaItem at(s, item, s.shared);
  const int64_t n = s.size, head = at.of_head(s, at.rest);
  float* const sum = a.work.sum + head * s.chunk;
  float* const grown = a.work.grown + head * s.chunk;
  float* const fading = a.work.fading + head * s.chunk;
  const float* const rate = a.work.rate + head * s.chunk;
  team.sync();
  team.once([=] {
    for (int64_t i = 1; i < n; i++) sum[i] += sum[i - 1];
  });
  team.sync();
  team.each(n, [=](int64_t i) {
    grown[i] = exponential(sum[i]);
    fading[i] = exponential(sum[n - 1] - sum[i]);
  });
  for (int64_t i = 0; i < n; i++) {
    const float* const gram = a.work.gram + (at.of_key(s) * 2 * s.chunk + i) * s.chunk;
    const float* const keys = gram + n * s.chunk;
    float* const within = a.work.within + (head * s.chunk + i) * s.chunk;
    float* const system = a.work.system + (head * s.chunk + i) * s.chunk;
    team.each(n, [=](int64_t j) {
      const float faded = exponential(sum[i] - sum[j]);
      within[j] = j <= i ? gram[j] * faded : 0.0f;
      system[j] = j < i ? rate[i] * keys[j] * faded : 0.0f;
    });
  }
}

/** X and Y, the first part of O, and the decayed state. An item is a value head. */
DEVICE void delta_solve(const Team& team, int64_t item, const DeltaStep& step) {
  const DeltaArgs& a = step.args;
  const DeltaSizes& s = a.sizes;
  const DeltaItem at(s, item, s.shared);
  const int64_t n = s.size, width = s.value_width, wide = s.values(), head = at.of_head(s, at.rest);
  const int64_t first = at.rest * width;
  const float* const grown = a.work.grown + head * s.chunk;
  const float* const fading = a.work.fading + head * s.chunk;
  const float* const rate = a.work.rate + head * s.chunk;
  const float* const system = a.work.system + head * s.chunk * s.chunk;
  const float* const queries = a.work.read + at.of_key(s) * 2 * s.chunk * wide + first;
  const float* const keys = queries + n * wide;
  const float* const values = a.work.values + at.of_key(s) * s.chunk * wide + first;
  float* const left = a.work.left + at.of_key(s) * s.chunk * wide + first;
  float* const fresh = a.work.fresh + head * s.chunk * width;
  float* const out = a.work.out + head * s.chunk * width;
  const float* const before = step.before + at.key * s.key_width * wide + first;
  float* const after = step.after == nullptr ? nullptr : step.after + at.key * s.key_width * wide + first;
  team.each_lanes(width, [=](auto none, int64_t c) {
    using L = decltype(none);
    for (int64_t i = 0; i < n; i++) {
      const float* const row = system + i * s.chunk;
      L x = rate[i] * (lanes_of<L>(values + i * wide + c) - grown[i] * lanes_of<L>(keys + i * wide + c));
      // In four sums, so that none waits for the previous one.
      L others[4] = {none, none, none, none};
      int64_t j = 0;
      for (; j + 4 <= i; j += 4) {
        for (int64_t k = 0; k < 4; k++) others[k] += row[j + k] * lanes_of<L>(fresh + (j + k) * width + c);
      }
      for (; j < i; j++) others[0] += row[j] * lanes_of<L>(fresh + j * width + c);
      x -= (others[0] + others[1]) + (others[2] + others[3]);
      store_lanes(fresh + i * width, c, x);
      store_lanes(left + i * wide, c, fading[i] * x);
      store_lanes(out + i * width, c, grown[i] * lanes_of<L>(queries + i * wide + c));
    }
  });
  if (after == nullptr) return;
  const float end = grown[n - 1];
  for (int64_t i = 0; i < s.key_width; i++)
    team.each(width, [=](int64_t c) { after[i * wide + c] = end * before[i * wide + c]; });
}

/**
 * The gradient of X through Y, from that of Y in d_left; and zeros for that of queries. An item is a row of a value
 * head.
 */
DEVICE void delta_fresh_back(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const DeltaItem at(s, item, s.size * s.shared);
  const int64_t row = at.rest / s.shared, shared = at.rest % s.shared, width = s.value_width;
  const int64_t own = at.head(s, shared) * s.chunk + row;
  const float fading = a.work.fading[at.of_head(s, shared) * s.chunk + row];
  const float* const fresh = a.work.fresh + (at.of_head(s, shared) * s.chunk + row) * width;
  const float* const d_left = a.work.d_left + (at.key * s.chunk + row) * s.values() + shared * width;
  float* const d_fresh = a.work.d_fresh + own * width;
  const float d_fading = team.sum<float>(width, [=](int64_t c) { return fresh[c] * d_left[c]; });
  team.each(width, [=](int64_t c) { d_fresh[c] = fading * d_left[c]; });
  team.once([=] { a.work.d_fading[own] = fading * d_fading; });
  if (shared > 0) return;
  float* const d_query = a.work.d_qk + (at.of_key(s) * 2 * s.chunk + row) * s.key_width;
  team.each(s.key_width, [=](int64_t c) { d_query[c] = 0.0f; });
}

/**
 * Solves (I + system)' R = X for gradients, in place; and decays the state's gradient, with the gradient of its decay.
 * An item is a value head.
 */
DEVICE void delta_solve_back(const Team& team, int64_t item, const DeltaStep& step) {
  const DeltaArgs& a = step.args;
  const DeltaSizes& s = a.sizes;
  const DeltaItem at(s, item, s.shared);
  const int64_t n = s.size, width = s.value_width, wide = s.values();
  const float* const system = a.work.system + at.of_head(s, at.rest) * s.chunk * s.chunk;
  const float end = a.work.grown[at.of_head(s, at.rest) * s.chunk + n - 1];
  float* const d = a.work.d_fresh + at.head(s, at.rest) * s.chunk * width;
  float* const d_end = a.work.d_end + at.head(s, at.rest) * width;
  const float* const before = step.before + at.key * s.key_width * wide + at.rest * width;
  float* const d_state = step.after + at.key * s.key_width * wide + at.rest * width;
  team.each_lanes(width, [=](auto none, int64_t c) {
    using L = decltype(none);
    for (int64_t i = n - 1; i >= 0; i--) {
      const float* const column = system + i;
      L others[4] = {none, none, none, none};
      int64_t j = i + 1;
      for (; j + 4 <= n; j += 4) {
        for (int64_t k = 0; k < 4; k++) others[k] += column[(j + k) * s.chunk] * lanes_of<L>(d + (j + k) * width + c);
      }
      for (; j < n; j++) others[0] += column[j * s.chunk] * lanes_of<L>(d + j * width + c);
      const L x = lanes_of<L>(d + i * width + c) - ((others[0] + others[1]) + (others[2] + others[3]));
      store_lanes(d + i * width, c, x);
    }
    store_lanes(d_end, c, none);
  });
  for (int64_t i = 0; i < s.key_width; i++) {
    team.each(width, [=](int64_t c) {
      const float faded = end * d_state[i * wide + c];
      d_end[c] += faded * before[i * wide + c];
      d_state[i * wide + c] = faded;
    });
  }
}

/**
 * From gradients of R and O to those of values, rates, sums, and of what was read of the state (in its place). An item
 * is a row of a value head.
 */
DEVICE void delta_read_back(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const DeltaItem at(s, item, s.size * s.shared);
  const int64_t row = at.rest / s.shared, shared = at.rest % s.shared, width = s.value_width;
  const int64_t own = at.head(s, shared) * s.chunk + row, kept = at.of_head(s, shared) * s.chunk + row;
  const float rate = a.work.rate[kept], grown = a.work.grown[kept];
  const float* const d_fresh = a.work.d_fresh + own * width;
  const float* const d_out = a.work.d_out + own * width;
  const int64_t place = (at.of_key(s) * s.chunk + row) * s.values() + shared * width;
  const float* const values = a.work.values + place;
  float* const d_values = a.work.left + place;
  float* const queries = a.work.read + (at.of_key(s) * 2 * s.chunk + row) * s.values() + shared * width;
  float* const keys = queries + s.size * s.values();
  const float of_values = team.sum<float>(width, [=](int64_t c) { return d_fresh[c] * values[c]; });
  const float of_keys = team.sum<float>(width, [=](int64_t c) { return d_fresh[c] * keys[c]; });
  const float of_queries = team.sum<float>(width, [=](int64_t c) { return d_out[c] * queries[c]; });
  team.each(width, [=](int64_t c) {
    d_values[c] = rate * d_fresh[c];
    queries[c] = grown * d_out[c];
    keys[c] = -rate * grown * d_fresh[c];
  });
  team.once([=] {
    a.work.d_rate[own] = of_values - grown * of_keys;
    a.work.d_sum[own] = grown * of_queries - rate * grown * of_keys;
  });
}

/**
 * From gradients of the two matrices to those of q k', k k', rates and sums; d_within keeps each pair's part of the
 * sums. An item is a row of a key head.
 */
DEVICE void delta_within_back(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const DeltaItem at(s, item, s.size);
  const int64_t n = s.size, i = at.rest;
  const float* const keys = a.work.gram + (at.of_key(s) * 2 * s.chunk + n + i) * s.chunk;
  float* const to_queries = a.work.d_gram + (at.key * 2 * s.chunk + i) * s.chunk;
  float* const to_keys = to_queries + n * s.chunk;
  for (int64_t shared = 0; shared < s.shared; shared++) {
    const int64_t own = at.head(s, shared) * s.chunk + i, kept = at.of_head(s, shared) * s.chunk;
    const float* const sum = a.work.sum + kept;
    const float rate = a.work.rate[kept + i];
    const float* const within = a.work.within + (kept + i) * s.chunk;
    float* const d_within = a.work.d_within + own * s.chunk;
    float* const d_system = a.work.d_system + own * s.chunk;
    const bool first = shared == 0;
    team.each(n, [=](int64_t j) {
      const float faded = j <= i ? exponential(sum[i] - sum[j]) : 0.0f;
      const float to_system = j < i ? -d_system[j] * faded : 0.0f;
      to_queries[j] = (first ? 0.0f : to_queries[j]) + d_within[j] * faded;
      to_keys[j] = (first ? 0.0f : to_keys[j]) + to_system * rate;
      d_within[j] = d_within[j] * within[j] + to_system * rate * keys[j];
      d_system[j] = to_system * keys[j];
    });
    const float to_sum = team.sum<float>(n, [=](int64_t j) { return d_within[j]; });
    const float to_rate = team.sum<float>(n, [=](int64_t j) { return d_system[j]; });
    team.once([=] {
      a.work.d_sum[own] += to_sum;
      a.work.d_rate[own] += to_rate;
    });
  }
}

/** From gradients of rates and sums of decays to those of the projections' outputs. An item is a value head. */
template <class Row>
DEVICE void delta_gates_back(const Team& team, int64_t item, const DeltaArgs& a) {
  const DeltaSizes& s = a.sizes;
  const DeltaItem at(s, item, s.shared);
  const int64_t n = s.size, head = at.head(s, at.rest), token = at.chunk * s.chunk;
  float* const d_sum = a.work.d_sum + head * s.chunk;
  const float* const d_fading = a.work.d_fading + head * s.chunk;
  const float* const d_within = a.work.d_within + head * s.chunk * s.chunk;
  const float* const d_end = a.work.d_end + head * s.value_width;
  team.each_lanes(n, [=](auto none, int64_t j) {
    using L = decltype(none);
    L sum = lanes_of<L>(d_sum + j) - lanes_of<L>(d_fading + j);
    for (int64_t i = 0; i < n; i++) sum -= lanes_of<L>(d_within + i * s.chunk + j);
    store_lanes(d_sum, j, sum);
  });
  const float of_end = team.sum<float>(s.value_width, [=](int64_t c) { return d_end[c]; }) +
                       team.sum<float>(n, [=](int64_t i) { return d_fading[i]; });
  team.sync();
  team.once([=] {
    d_sum[n - 1] += of_end;
    for (int64_t i = n - 2; i >= 0; i--) d_sum[i] += d_sum[i + 1];
  });
  team.sync();
  const float bias = a.decay_bias[head], pace = -exponential(a.decay_log[head]);
  const auto decay_of = [=](int64_t i) {
    return load(delta_row<const Row>(a.rows, kDecay, token + i, at.key), at.rest) + bias;
  };
  team.each(n, [=](int64_t i) {
    const float rate = a.work.rate[at.of_head(s, at.rest) * s.chunk + i];
    store(delta_row<Row>(a.d_rows, kRate, token + i, at.key), at.rest,
          a.work.d_rate[head * s.chunk + i] * rate * (1.0f - rate));
    store(delta_row<Row>(a.d_rows, kDecay, token + i, at.key), at.rest, d_sum[i] * pace * sigmoid(decay_of(i)));
  });
  const float to_log = team.sum<float>(n, [=](int64_t i) { return d_sum[i] * pace * softplus(decay_of(i)); });
  const float to_bias = team.sum<float>(n, [=](int64_t i) { return d_sum[i] * pace * sigmoid(decay_of(i)); });
  team.once([=] {
    a.d_decay_log[head] += to_log;
    a.d_decay_bias[head] += to_bias;
  });
}

}  // namespace

REVMOE_KERNEL(delta_within_chunk, delta_within, DeltaArgs)
REVMOE_KERNEL(delta_solve_chunk, delta_solve, DeltaStep)
REVMOE_KERNEL(delta_fresh_back_chunk, delta_fresh_back, DeltaArgs)
REVMOE_KERNEL(delta_solve_back_chunk, delta_solve_back, DeltaStep)
REVMOE_KERNEL(delta_read_back_chunk, delta_read_back, DeltaArgs)
REVMOE_KERNEL(delta_within_back_chunk, delta_within_back, DeltaArgs)
REVMOE_KERNEL(delta_gates_back_float, delta_gates_back<float>, DeltaArgs)
REVMOE_KERNEL(delta_gates_back_bfloat16, delta_gates_back<bfloat16>, DeltaArgs)

}  // namespace revmoe::kernels
