// A layer of experts: its products with weights and biases of any dtype, and a weight or a bias that gets a gradient.
#pragma once
#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "experts/expert_groups.hpp"
#include "experts/grouped_products.hpp"

namespace revmoe {

// Weights in the dtype of the products. Those of another dtype are copied, each place's over the one before.
class Casts {
 public:
  Casts(const at::Tensor& x, at::TensorList gate_up, at::TensorList down, size_t places) {
    int64_t most = 0;
    for (const at::TensorList& weights : {gate_up, down}) {
      for (const at::Tensor& weight : weights) {
        if (weight.scalar_type() != x.scalar_type()) most = std::max(most, weight.numel());
      }
    }
    if (most > 0) copies_ = at::empty({static_cast<int64_t>(places), most}, x.options());
  }

  at::Tensor of(const at::Tensor& weight, size_t place) const {
    if (!copies_.defined() || weight.scalar_type() == copies_.scalar_type()) return weight;
    at::Tensor copy = copies_.select(0, static_cast<int64_t>(place)).narrow(0, 0, weight.numel()).view(weight.sizes());
    return copy.copy_(weight);
  }

 private:
  at::Tensor copies_;
};

// The groups of a layer, and its weights as products need them, for one way forward.
struct Layer {
  Grouped grouped;
  std::vector<Group> groups;
  size_t places;
  Casts casts;

  Layer(const at::Tensor& x, at::TensorList gate_up, at::TensorList down, at::IntArrayRef rows)
      : grouped(x, rows),
        groups(groups_of(x, rows)),
        places(places_for(groups, without_workspace(x))),
        casts(x, gate_up, down, places) {}

  // Each group times its transposed weight, plus its bias, in a tensor that is given or a new one.
  at::Tensor products(const at::Tensor& x, at::TensorList weights, at::TensorList biases,
                      const at::Tensor& into = {}) const {
    const at::Tensor y = products_alone(x, weights, into);
    if (biases.empty()) return y;
    for (const Group& group : groups) group.of(y).add_(biases[group.expert].to(y.scalar_type()));
    return y;
  }

 private:
  at::Tensor products_alone(const at::Tensor& x, at::TensorList weights, const at::Tensor& into) const {
    const at::Tensor together = grouped.products(x, weights, /*transposed=*/true);
    if (together.defined()) return into.defined() ? into.copy_(together) : together;
    const at::Tensor y = into.defined() ? into : at::empty({x.size(0), weights[0].size(0)}, x.options());
    for_each(groups, places, [&](const Group& group, size_t place) {
      multiply_rows(group, y, x, casts.of(weights[group.expert], place).t());
    });
    return y;
  }
};

// Biases of the first products, or of the second; none where there are none.
inline at::TensorList half_of(at::TensorList biases, bool second) {
  const size_t experts = biases.size() / 2;
  return biases.slice(second ? experts : 0, experts);
}

// A weight or a bias in the backward pass: its gradient is added to a buffer that is there, or becomes one.
struct Weight {
  at::Tensor value;
  at::Tensor buffer;
  bool made;

  // Adds dy' x of a group. Zeros for the others' rows in the narrower factor leave out what the wider holds there.
  void add(const Group& group, const at::Tensor& all_dy, const at::Tensor& all_x) const {
    if (!buffer.defined()) return;
    const bool narrow_dy = all_dy.size(1) < all_x.size(1);
    const at::Tensor dy = narrow_dy ? group.alone(all_dy) : group.span(all_dy);
    const at::Tensor x = narrow_dy ? group.span(all_x) : group.alone(all_x);
    at::Tensor sum = buffer;
#if REVMOE_WIDE_SUMS
    if (x.is_cuda() && sum.scalar_type() == at::kFloat && x.element_size() == 2) {
      at::addmm_out(sum, sum, dy.t(), x, at::kFloat, made ? 0 : 1, 1);
      return;
    }
#endif
    if (sum.scalar_type() != x.scalar_type()) {
      const at::Tensor product = dy.t().mm(x);
      made ? sum.copy_(product) : sum.add_(product);
    } else if (made) {
      multiply(sum, dy.t(), x);
    } else {
      sum.addmm_(dy.t(), x);
    }
  }

  // Of a bias: adds the sum of the rows of dy of a group.
  void add_rows(const Group& group, const at::Tensor& all_dy) const {
    if (!buffer.defined()) return;
    const at::Tensor sum = at::sum(group.of(all_dy), {0});
    at::Tensor into = buffer;
    made ? into.copy_(sum) : into.add_(sum);
  }
};

}  // namespace revmoe
