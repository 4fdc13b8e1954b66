// A product in bfloat16 that becomes a float32 gradient, or is added to one. An item is a chunk.
#pragma once
#include "numbers.h"

namespace revmoe::kernels {
namespace {

struct ProductArgs {
  float* sum;
  const bfloat16* product;
  int64_t elements;
  int32_t add;
};

DEVICE void add_product(const Team& team, int64_t chunk, const ProductArgs& a) {
  float* const sum = a.sum + chunk * kChunkElements;
  const bfloat16* const product = a.product + chunk * kChunkElements;
  const int64_t count = chunk_size(chunk, a.elements);
  if (a.add) {
    team.each(count, [=](int64_t i) { sum[i] += load(product, i); });
  } else {
    team.each(count, [=](int64_t i) { sum[i] = load(product, i); });
  }
}

}  // namespace

REVMOE_KERNEL(add_product_bfloat16, add_product, ProductArgs)

}  // namespace revmoe::kernels
