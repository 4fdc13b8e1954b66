// A layer of experts: its products with weights and biases of any dtype, and the gradients of these.
#pragma once
#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "experts/expert_groups.hpp"
#include "experts/expert_rows.hpp"
#include "experts/grouped_products.hpp"

namespace revmoe {

// Weights in the dtype of the products. Those of another dtype are copied; each place has one copy at a time.
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

// The groups of a layer, and its weights in the form for products, for one forward or backward pass. Rows are like
// those of x.
struct Layer {
  const Rows& rows;
  Grouped grouped;

  Layer(const at::Tensor& x, at::TensorList gate_up, at::TensorList down, const Rows& rows)
      : rows(rows), grouped(x, rows), x_(x), gate_up_(gate_up), down_(down) {}

  // Each group times its weight, or times the transposed weight. If products are computed one by one, the result is
  // `spare`, if given.
  at::Tensor products(const at::Tensor& x, at::TensorList weights, bool transposed, const at::Tensor& spare) const {
    if (grouped.takes(x, weights)) return grouped.products(x, weights, transposed);
    const std::vector<Group> groups = this->groups();
    const size_t places = places_for(groups, without_workspace(x));
    const int64_t columns = weights[0].size(transposed ? 0 : 1);
    const at::Tensor into = spare.defined() ? spare : at::empty({x.size(0), columns}, x.options());
    if (!casts_) casts_.emplace(x_, gate_up_, down_, places);
    for_each(groups, places, [&](const Group& group, size_t place) {
      const at::Tensor weight = casts_->of(weights[group.expert], place);
      multiply_rows(group, into, x, transposed ? weight.t() : weight);
    });
    return into;
  }

  std::vector<Group> groups() const { return groups_of(x_, rows.by_expert()); }

 private:
  const at::Tensor x_;
  const at::TensorList gate_up_, down_;
  mutable c10::optional<Casts> casts_;
};

// Biases of the first products, or of the second; none if there are none.
inline at::TensorList half_of(at::TensorList biases, bool second) {
  const size_t experts = biases.size() / 2;
  return biases.slice(second ? experts : 0, experts);
}

// The gradient of a weight or a bias: added to a buffer, if there is one; if `fresh`, it overwrites what is in it.
struct Gradient {
  at::Tensor buffer;
  bool fresh;

  // Adds dy' x of a group. Zeros for other groups' rows in the narrower factor cancel these rows in the wider one.
  void add(const Group& group, const at::Tensor& all_dy, const at::Tensor& all_x) const {
    if (!buffer.defined()) return;
    const bool narrow_dy = all_dy.size(1) < all_x.size(1);
    const at::Tensor dy = narrow_dy ? group.alone(all_dy) : group.span(all_dy);
    const at::Tensor x = narrow_dy ? group.span(all_x) : group.alone(all_x);
    at::Tensor sum = buffer;
#if REVMOE_WIDE_SUMS
    if (x.is_cuda() && sum.scalar_type() == at::kFloat && x.element_size() == 2) {
      at::addmm_out(sum, sum, dy.t(), x, at::kFloat, fresh ? 0 : 1, 1);
      return;
    }
#endif
    if (sum.scalar_type() != x.scalar_type()) {
      take(dy.t().mm(x));
    } else if (fresh) {
      multiply(sum, dy.t(), x);
    } else {
      sum.addmm_(dy.t(), x);
    }
  }

  // For a bias: adds the sum of a group's rows.
  void add_rows(const at::Tensor& rows) const {
    if (buffer.defined()) take(at::sum(rows, {0}));
  }

 private:
  // On a CPU, ATen would first convert the addend to a new tensor.
  void take(const at::Tensor& addend) const {
    at::Tensor sum = buffer;
    if (sum.is_cpu() && sum.scalar_type() == at::kFloat && addend.scalar_type() == at::kBFloat16 &&
        sum.is_contiguous()) {
      const kernels::ProductArgs args{static_cast<float*>(sum.data_ptr()),
                                      static_cast<const kernels::bfloat16*>(addend.data_ptr()), sum.numel(), nullptr,
                                      !fresh};
      launch(kernels::add_product_bfloat16, args, kernels::chunks_of(sum.numel()), sum.device());
    } else {
      fresh ? sum.copy_(addend) : sum.add_(addend);
    }
  }
};

}  // namespace revmoe
