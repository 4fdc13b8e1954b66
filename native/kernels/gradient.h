// Products in bfloat16 that become float32 gradients, or are added to them: of one matrix, or of matrices side by side,
// one for each expert of a layer. The product of an expert without rows is not read: it counts as zeros. An item is a
// chunk of a matrix.
#pragma once
#include "elements.h"

namespace revmoe::kernels {
namespace {

struct ProductArgs {
  float* sum;
  const bfloat16* product;
  /** Elements of a matrix. */
  int64_t elements;
  /** Number of rows of each expert; null if every product counts. */
  const int64_t* rows;
  int32_t add;
};

template <class Product>
DEVICE void add_product(const Team& team, int64_t item, const ProductArgs& a) {
  const int64_t chunks = chunks_of(a.elements), matrix = item / chunks, chunk = item % chunks;
  const int64_t first = matrix * a.elements + chunk * kChunkElements;
  float* const sum = a.sum + first;
  const Read<Product> product{a.product + first};
  const int64_t count = chunk_size(chunk, a.elements);
  const bool any = a.rows == nullptr || a.rows[matrix] > 0;
  if (any && a.add) {
    each_of(
        team, count, [](float& sum, Product own) { sum += load(&own, 0); }, Changed<float>{sum}, product);
  } else if (any) {
    each_of(
        team, count, [](float& sum, Product own) { sum = load(&own, 0); }, Written<float>(sum), product);
  } else if (!a.add) {
    each_of(
        team, count, [](float& sum) { sum = 0; }, Written<float>(sum));
  }
}

}  // namespace

REVMOE_KERNEL(add_product_bfloat16, add_product<bfloat16>, ProductArgs)

}  // namespace revmoe::kernels
