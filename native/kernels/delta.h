// What the kernels of a layer with a gated delta rule share: sizes, places, and what an item is. A tile of tokens is
// processed in chunks, and a chunk head by head; several value heads share a key head. The rows of q lie above those of
// k, and the values of heads that share a key side by side, so that one product serves all of them.
#pragma once
#include "numbers.h"

namespace revmoe::kernels {
namespace {

constexpr int64_t kDeltaMostTaps = 64;

struct DeltaSizes {
  int64_t tokens, key_heads, shared, key_width, value_width, taps, chunk;
  /** Number of chunks for which there is room; later chunks take the places of the first. */
  int64_t slots;
  /** The part of a launch: chunks of `size` tokens each, and key heads. */
  int64_t first_chunk, chunks, size, first_key, keys;

  DEVICE int64_t heads() const { return key_heads * shared; }
  /** Number of values of all heads that share a key. */
  DEVICE int64_t values() const { return shared * value_width; }
  DEVICE int64_t channels() const { return key_heads * (2 * key_width + values()); }
  DEVICE int64_t slot(int64_t of_chunk) const { return of_chunk % slots; }
};

/**
 * Queries, keys, values, gates, rates and decays, as the projections made them: rows of tokens, and the distance
 * between heads.
 */
enum DeltaPart { kQuery, kKey, kValue, kGate, kRate, kDecay, kDeltaParts };
struct DeltaRows {
  void* at[kDeltaParts];
  int64_t row_step[kDeltaParts], head_step[kDeltaParts];
};

/**
 * float32 workspace. N is the tokens of a chunk, G slots, K key heads, H value heads, C and V their widths, W all
 * values of a key.
 */
struct DeltaWork {
  float* qk;      // G K 2N C
  float* values;  // G K N W
  float* gram;    // G K 2N N: q k' above k k'
  float* within;  // G H N N: q k' with decay, on and below the diagonal
  float* system;  // G H N N: rate k k' with decay, below the diagonal
  float* read;    // G K 2N W: q S above k S
  float* fresh;   // G H N V: what each key adds to the state
  float* left;    // G K N W: the part of it that remains at the chunk's end
  float* out;     // G H N V
  float* rate;    // G H N
  float* sum;     // G H N: of decays since the chunk's start
  float* grown;   // G H N: e^sum
  float* fading;  // G H N: e^(last sum - sum)
  float* unit;    // G K 2N: 1 / length of q and k
  float* states;  // (G - 1) K C W: before each chunk except the first
  float* d_qk;    // G K 2N C
  // For one chunk.
  float* d_out;     // H N V
  float* d_fresh;   // H N V
  float* d_within;  // H N N
  float* d_system;  // H N N
  float* d_gram;    // K 2N N
  float* d_left;    // K N W
  float* d_sum;     // H N
  float* d_fading;  // H N
  float* d_rate;    // H N
  float* d_end;     // H V: of the state's decay over the chunk
  float* d_norm;    // H V: of the norm, over all chunks so far
  float* d_before;  // of the rows before the tile
};

struct DeltaArgs {
  DeltaSizes sizes;
  DeltaRows rows, d_rows;
  DeltaWork work;
  /**
   * The convolution [taps, channels], two of decays [H], and the norm [V]; and their gradients, to which kernels add.
   */
  const float *taps, *decay_log, *decay_bias, *norm;
  float *d_taps, *d_decay_log, *d_decay_bias;
  /** Rows of the convolution before the tile, and the gradient of those before the next. */
  float* before;
  const float* d_after;
  void* out;
  const void* d_out;
  float epsilon;
};

/**
 * The states before and after a chunk. In the backward pass, `after` is the gradient of the later state, and becomes
 * that of the earlier one. [K, C, W].
 */
struct DeltaStep {
  DeltaArgs args;
  const float* before;
  float* after;
};

/** What an item is: `rest` counts fastest, below `count`. */
struct DeltaItem {
  int64_t chunk, key, rest;
  DEVICE DeltaItem(const DeltaSizes& s, int64_t item, int64_t count)
      : chunk(s.first_chunk + item / (count * s.keys)), key(s.first_key + item / count % s.keys), rest(item % count) {}
  DEVICE int64_t of_key(const DeltaSizes& s) const { return s.slot(chunk) * s.key_heads + key; }
  /** The value head number `shared` among those of the key. */
  DEVICE int64_t head(const DeltaSizes& s, int64_t shared) const { return key * s.shared + shared; }
  DEVICE int64_t of_head(const DeltaSizes& s, int64_t shared) const {
    return s.slot(chunk) * s.heads() + head(s, shared);
  }
};

/** Number of tokens in a chunk of the tile. */
DEVICE int64_t delta_chunk_size(const DeltaSizes& s, int64_t chunk) {
  const int64_t left = s.tokens - chunk * s.chunk;
  return left < s.chunk ? left : s.chunk;
}

template <class Row>
DEVICE Row* delta_row(const DeltaRows& rows, DeltaPart part, int64_t token, int64_t key) {
  return static_cast<Row*>(rows.at[part]) + token * rows.row_step[part] + key * rows.head_step[part];
}

/**
 * For queries, keys or values of a key head: the number of channels, and the first one among the convolution's
 * channels.
 */
DEVICE int64_t delta_width(const DeltaSizes& s, int part) { return part == kValue ? s.values() : s.key_width; }
DEVICE int64_t delta_channel(const DeltaSizes& s, int part, int64_t key) {
  return part * s.key_heads * s.key_width + key * delta_width(s, part);
}

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
DEVICE float silu(float x) { return x * sigmoid(x); }
DEVICE float silu_slope(float x) {
  const float s = sigmoid(x);
  return s * (1.0f + x * (1.0f - s));
}

/** log(1 + e^x), with log(1 + u) = 2 artanh(u / (2 + u)) for u up to 1, within 3 units in the last place. */
DEVICE float softplus(float x) {
  const float u = exponential(-magnitude(x));
  const float s = u / (2.0f + u);
  const float square = s * s;
  float p = 1.0f / 15.0f;
  p = p * square + 1.0f / 13.0f;
  p = p * square + 1.0f / 11.0f;
  p = p * square + 1.0f / 9.0f;
  p = p * square + 1.0f / 7.0f;
  p = p * square + 1.0f / 5.0f;
  p = p * square + 1.0f / 3.0f;
  p = p * square + 1.0f;
  return (x > 0.0f ? x : 0.0f) + 2.0f * s * p;
}

/** Rounded as a row of this type stores it. */
DEVICE float rounded(const float*, float x) { return x; }
DEVICE float rounded(const bfloat16*, float x) { return float_of(static_cast<uint32_t>(nearest_bfloat16(x)) << 16); }

}  // namespace
}  // namespace revmoe::kernels
