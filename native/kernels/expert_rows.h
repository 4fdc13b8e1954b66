// Tokens and the rows of their experts: A choices for each token, rows sorted by expert and then by token. `places` has
// the row of every choice. So no two items add to the same element, and each sum has the order of a token's choices.
#pragma once
#include "groups.h"

namespace revmoe::kernels {
namespace {

/** Number of choices in a chunk. */
constexpr int64_t kChunkChoices = 256;
constexpr int64_t kChunksTogether = 16;

struct PlacesArgs {
  const int64_t* experts_of;
  int64_t* places;
  /** For every chunk and expert: how many choose it; then the first row of these. */
  int64_t* starts;
  int64_t* counts;
  int64_t choices, experts;

  DEVICE int64_t size(int64_t chunk) const {
    const int64_t left = choices - chunk * kChunkChoices;
    return left < kChunkChoices ? left : kChunkChoices;
  }
};

#ifdef REVMOE_GPU
/** The experts of a chunk's choices, in shared memory; -1 after the last choice. */
DEVICE const int32_t* near_choices(const Team& team, int64_t chunk, const PlacesArgs& a) {
  __shared__ int32_t near[kChunkChoices];
  const int64_t* const chosen = a.experts_of + chunk * kChunkChoices;
  const int64_t count = a.size(chunk);
  team.sync();
  team.each(kChunkChoices, [&](int64_t i) { near[i] = i < count ? static_cast<int32_t>(chosen[i]) : -1; });
  team.sync();
  return near;
}
#endif

// On a GPU each thread counts for its own experts and reads all choices of the chunk; on a CPU one thread goes through
// them.
DEVICE void count_choices(const Team& team, int64_t chunk, const PlacesArgs& a) {
  int64_t* const own = a.starts + chunk * a.experts;
#ifdef REVMOE_GPU
  const int32_t* const chosen = near_choices(team, chunk, a);
  team.each(a.experts, [=](int64_t expert) {
    int32_t count = 0;
    for (int i = 0; i < kChunkChoices; i++) count += chosen[i] == static_cast<int32_t>(expert);
    own[expert] = count;
  });
#else
  const int64_t* const chosen = a.experts_of + chunk * kChunkChoices;
  team.each(a.experts, [=](int64_t expert) { own[expert] = 0; });
  for (int64_t i = 0; i < a.size(chunk); i++) own[chosen[i]]++;
#endif
}

/** There is one item. */
DEVICE void start_rows(const Team& team, int64_t, const PlacesArgs& a) {
  const int64_t chunks = (a.choices + kChunkChoices - 1) / kChunkChoices;
  team.each(a.experts, [&](int64_t expert) {
    int64_t count = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) count += a.starts[chunk * a.experts + expert];
    a.counts[expert] = count;
  });
  team.sync();
  team.each(a.experts, [&](int64_t expert) {
    int64_t next = 0;
    for (int64_t before = 0; before < expert; before++) next += a.counts[before];
    // Several at a time, all read before any is written.
    for (int64_t first = 0; first < chunks; first += kChunksTogether) {
      int64_t count[kChunksTogether];
      for (int64_t k = 0; k < kChunksTogether; k++)
        count[k] = first + k < chunks ? a.starts[(first + k) * a.experts + expert] : 0;
      for (int64_t k = 0; k < kChunksTogether && first + k < chunks; k++) {
        a.starts[(first + k) * a.experts + expert] = next;
        next += count[k];
      }
    }
  });
}

DEVICE void place_choices(const Team& team, int64_t chunk, const PlacesArgs& a) {
  int64_t* const places = a.places + chunk * kChunkChoices;
  int64_t* const next = a.starts + chunk * a.experts;
#ifdef REVMOE_GPU
  const int32_t* const chosen = near_choices(team, chunk, a);
  team.each(a.experts, [=](int64_t expert) {
    int64_t row = next[expert];
    for (int i = 0; i < kChunkChoices; i++) {
      if (chosen[i] == static_cast<int32_t>(expert)) places[i] = row++;
    }
  });
#else
  const int64_t* const chosen = a.experts_of + chunk * kChunkChoices;
  for (int64_t i = 0; i < a.size(chunk); i++) places[i] = next[chosen[i]]++;
#endif
}

struct ExpertRowsArgs {
  void* of_tokens;
  void* rows;
  const int64_t* places;
  int64_t choices, width;

  DEVICE bool even() const { return aligned(of_tokens, rows) && width % kTogether == 0; }
};

/** Copies each row from its token. An item is a token. */
template <class T>
DEVICE void gather_rows(const Team& team, int64_t token, const ExpertRowsArgs& a) {
  const T* const from = static_cast<const T*>(a.of_tokens) + token * a.width;
  for (int64_t choice = 0; choice < a.choices; choice++) {
    T* const row = static_cast<T*>(a.rows) + a.places[token * a.choices + choice] * a.width;
    each_at<kTogether>(team, a.width, a.even(), [=](auto at) { put_some(row, at, some_of(from, at)); });
  }
}

/**
 * A token becomes the sum of its rows, added as float32 in the order of its choices. N is their number, if it is known
 * when compiling; then the compiler vectorises.
 */
template <int N, class T>
DEVICE void sum_rows(const Team& team, int64_t token, const ExpertRowsArgs& a) {
  const T* row[N];
  for (int choice = 0; choice < N; choice++)
    row[choice] = static_cast<const T*>(a.rows) + a.places[token * N + choice] * a.width;
  T* const into = static_cast<T*>(a.of_tokens) + token * a.width;
  each_at<kTogether>(team, a.width, a.even(), [=](auto at) {
    auto sum = load(row[0], at);
    for (int choice = 1; choice < N; choice++) {
      const auto next = load(row[choice], at);
      at.each([&](int k) { sum[k] += next[k]; });
    }
    store(into, at, sum);
  });
}

template <class T>
DEVICE void sum_any_rows(const Team& team, int64_t token, const ExpertRowsArgs& a) {
  const int64_t* const places = a.places + token * a.choices;
  const T* const rows = static_cast<const T*>(a.rows);
  T* const into = static_cast<T*>(a.of_tokens) + token * a.width;
  team.each(a.width, [=](int64_t i) {
    float sum = load(rows, places[0] * a.width + i);
    for (int64_t choice = 1; choice < a.choices; choice++) sum += load(rows, places[choice] * a.width + i);
    store(into, i, sum);
  });
}

template <class T>
DEVICE void combine_rows(const Team& team, int64_t token, const ExpertRowsArgs& a) {
  switch (a.choices) {
    case 1:
      return sum_rows<1, T>(team, token, a);
    case 2:
      return sum_rows<2, T>(team, token, a);
    case 4:
      return sum_rows<4, T>(team, token, a);
    case 6:
      return sum_rows<6, T>(team, token, a);
    case 8:
      return sum_rows<8, T>(team, token, a);
    case 10:
      return sum_rows<10, T>(team, token, a);
    default:
      return sum_any_rows<T>(team, token, a);
  }
}

}  // namespace

REVMOE_KERNEL(expert_counts, count_choices, PlacesArgs)
REVMOE_KERNEL(expert_starts, start_rows, PlacesArgs)
REVMOE_KERNEL(expert_places, place_choices, PlacesArgs)
REVMOE_KERNEL(gather_rows_float, gather_rows<float>, ExpertRowsArgs)
REVMOE_KERNEL(gather_rows_bfloat16, gather_rows<bfloat16>, ExpertRowsArgs)
REVMOE_KERNEL(combine_rows_float, combine_rows<float>, ExpertRowsArgs)
REVMOE_KERNEL(combine_rows_bfloat16, combine_rows<bfloat16>, ExpertRowsArgs)

}  // namespace revmoe::kernels
