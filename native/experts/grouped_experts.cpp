// revmoe::grouped_experts, the experts of a layer: rows of x sorted by expert, y_e = act(x_e Wg' + bg) Wd' + bd, where act is a row of
// expert_activation.hpp, the weights of gate and up are stacked, and biases may be missing.
// The backward pass adds gradients of weights in place to those that are there, writes over what it kept, and computes again what is cheap:
// a graph keeps x and x Wg' + bg. An expert often gets too few rows for more than one thread to pay, so experts with few go to one
// thread each, where there are enough. Neither bits nor memory depend on the order: on a CPU, products of float32 and float64 take no workspace, and all else waits its turn.
// Weights of another dtype than x are copied to it one at a time for each product, so that a layer of them never exists.
// On CUDA, where every product costs as much as many of these take, products of bfloat16 whose weights lie side by side go through libtorch's
// grouped kernel, all experts at once.
// revmoe::grouped_experts_keep makes no gradients of weights: the backward pass leaves what they are made of in `kept`, three tensors of rows:
// the gradient of x Wg' + bg; act of it; and dy. revmoe::expert_gradients_ and revmoe::expert_bias_gradients_ make the gradients of some experts
// of them, in the same way as the whole backward pass does, and so with the same bits.
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

#include "experts/expert_activation.hpp"
#include "experts/expert_layer.hpp"

namespace revmoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Where no graph is wanted.
at::Tensor value_alone(const at::Tensor& x, at::TensorList gate_up, at::TensorList down, at::IntArrayRef rows,
                       at::TensorList biases, const Activation& activation) {
  const Layer layer(x, gate_up, down, rows);
  const at::Tensor both = layer.products(x, gate_up, half_of(biases, false));
  return layer.products(activation.in_place(both), down, half_of(biases, true));
}

struct GroupedExperts : torch::autograd::Function<GroupedExperts> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_RD, at::TensorList gate_up,
                            at::TensorList down, at::TensorList biases, std::vector<int64_t> rows,
                            std::vector<at::Tensor> kept, Activation activation) {
    const Layer layer(x_RD, gate_up, down, rows);
    const at::Tensor both_RG =
        layer.products(x_RD, gate_up, half_of(biases, false), kept.empty() ? at::Tensor() : kept[0]);
    const at::Tensor inner_RF = activation.of_gate(both_RG);
    activation.inner(inner_RF, inner_RF, both_RG);
    const at::Tensor y_RD = layer.products(inner_RF, down, half_of(biases, true));
    variable_list saved{x_RD, both_RG};
    for (const at::TensorList& some : {gate_up, down, biases}) saved.insert(saved.end(), some.begin(), some.end());
    context->save_for_backward(saved);
    context->saved_data["rows"] = std::move(rows);
    context->saved_data["activation"] = std::string(activation.name());
    context->saved_data["interleaved"] = activation.interleaved();
    context->saved_data["limit"] = activation.limit();
    context->saved_data["alpha"] = activation.alpha();
    if (!kept.empty()) {
      context->saved_data["inner"] = kept[1];
      context->saved_data["dy"] = kept[2];
    }
    return y_RD;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const std::vector<int64_t> rows = data["rows"].toIntVector();
    const Activation activation(data["activation"].toStringRef(), data["interleaved"].toBool(),
                                data["limit"].toDouble(), data["alpha"].toDouble());
    const size_t experts = rows.size();
    const at::Tensor x_RD = saved[0].detach();
    const std::vector<Group> groups = groups_of(x_RD, rows);
    const Grouped grouped(x_RD, rows);
    const at::Tensor dy_RD = gradients[0].contiguous();
    const bool keeps = data.count("dy") > 0;
    // In the order of the inputs, by expert: of the first products, of the second, and biases of both.
    std::vector<Weight> weights;
    for (size_t i = 2; i < saved.size(); i++) {
      const bool needed = !keeps && context->needs_input_grad(i - 1);
      weights.push_back(
          {saved[i].detach(), needed ? saved[i].grad() : at::Tensor(), needed && !saved[i].grad().defined()});
    }
    const bool biased = weights.size() > 2 * experts;
    const Weight* const gate_up = weights.data();
    const Weight* const down = gate_up + experts;
    for (const Group& group : groups) {
      for (size_t i = group.expert; i < weights.size(); i += experts) {
        if (weights[i].made) weights[i].buffer = at::empty_like(weights[i].value);
      }
    }
    const bool alone = std::any_of(gate_up, down + experts, [&](const Weight& each) {
      return each.buffer.defined() && each.buffer.scalar_type() != x_RD.scalar_type();
    });
    const size_t places = places_for(groups, !alone && without_workspace(x_RD));
    const at::TensorList inputs(saved);
    const Casts casts(x_RD, inputs.slice(2, experts), inputs.slice(2 + experts, experts), places);

    const at::Tensor& both_RG = saved[1];
    const at::Tensor of_gate_RF = activation.of_gate(both_RG);
    at::Tensor inner_RF = keeps ? data["inner"].toTensor() : at::empty_like(of_gate_RF);
    activation.inner(inner_RF, of_gate_RF, both_RG);
    if (keeps) data["dy"].toTensor().copy_(dy_RD);
    // Adds gradients of weights, and returns dy W where it is wanted: in `into`, if that is given and products go one by one.
    const auto back = [&](const Weight* some, const at::Tensor& dy, const at::Tensor& x, bool wanted,
                          at::Tensor into = {}) {
      std::vector<at::Tensor> buffers, values;
      for (size_t i = 0; i < experts; i++) {
        if (!some[i].made) buffers.push_back(some[i].buffer);
        values.push_back(some[i].value);
      }
      const bool added = buffers.size() == experts && grouped.add_gradients(buffers, dy, x, 0, /*add=*/true);
      const at::Tensor together = wanted ? grouped.products(dy, values, /*transposed=*/false) : at::Tensor();
      const bool by_itself = wanted && !together.defined();
      if (by_itself && !into.defined()) into = at::empty({dy.size(0), values[0].size(1)}, dy.options());
      // Gradients before products, which may write over x.
      if (!added) for_each(groups, places, [&](const Group& group, size_t) { some[group.expert].add(group, dy, x); });
      if (by_itself) {
        for_each(groups, places, [&](const Group& group, size_t place) {
          multiply_rows(group, into, dy, casts.of(some[group.expert].value, place));
        });
      }
      return together.defined() || !wanted ? together : into;
    };
    const auto back_biases = [&](size_t first, const at::Tensor& dy) {
      for (const Group& group : groups) {
        if (biased) weights[first + group.expert].add_rows(group, dy);
      }
    };
    back_biases(3 * experts, dy_RD);
    const at::Tensor dInner_RF = back(down, dy_RD, inner_RF, /*wanted=*/true, keeps ? at::Tensor() : inner_RF);
    activation.gradient(both_RG, of_gate_RF, dInner_RF);
    back_biases(2 * experts, both_RG);

    // One for each input, of which the last three are no tensors.
    variable_list made(1 + weights.size() + 3);
    made[0] = back(gate_up, both_RG, x_RD, context->needs_input_grad(0));
    for (size_t i = 0; i < weights.size(); i++) {
      if (weights[i].made) made[i + 1] = weights[i].buffer;
    }
    return made;
  }
};

void check(const at::Tensor& x, at::TensorList gate_up, at::TensorList down, at::IntArrayRef rows,
           at::TensorList biases, const Activation& activation) {
  TORCH_CHECK(!rows.empty() && gate_up.size() == rows.size() && down.size() == rows.size(),
              "each expert needs its matrices and a number of rows");
  TORCH_CHECK(biases.empty() || biases.size() == 2 * rows.size(), "each expert needs two biases, or none has one");
  int64_t all = 0;
  for (const int64_t each : rows) all += each;
  TORCH_CHECK(all == x.size(0), "there are ", x.size(0), " rows, and the experts have ", all);
  for (size_t expert = 0; expert < rows.size(); expert++) {
    const int64_t first = gate_up[expert].size(0), inner = down[expert].size(1);
    TORCH_CHECK(first == activation.columns() * inner, activation.name(), " makes ", first, " columns to ",
                first / activation.columns(), ", and the second matrix takes ", inner);
  }
}

at::Tensor grouped_experts(const at::Tensor& x, at::TensorList gate_up, at::TensorList down, at::IntArrayRef rows,
                           at::TensorList biases, std::string name, bool interleaved, double limit, double alpha) {
  const Activation activation(name, interleaved, limit, alpha);
  check(x, gate_up, down, rows, biases, activation);
  const auto trained = [](at::TensorList tensors) {
    return std::any_of(tensors.begin(), tensors.end(), [](const at::Tensor& each) { return each.requires_grad(); });
  };
  const bool graph =
      at::GradMode::is_enabled() && (x.requires_grad() || trained(gate_up) || trained(down) || trained(biases));
  if (!graph) return value_alone(x, gate_up, down, rows, biases, activation);
  return GroupedExperts::apply(x, gate_up, down, biases, rows.vec(), std::vector<at::Tensor>(), activation);
}

at::Tensor grouped_experts_keep(const at::Tensor& x, at::TensorList gate_up, at::TensorList down, at::IntArrayRef rows,
                                at::TensorList kept, at::TensorList biases, std::string name, bool interleaved,
                                double limit, double alpha) {
  const Activation activation(name, interleaved, limit, alpha);
  check(x, gate_up, down, rows, biases, activation);
  TORCH_CHECK(kept.size() == 3, "three tensors keep rows, not ", kept.size());
  return GroupedExperts::apply(x, gate_up, down, biases, rows.vec(), kept.vec(), activation);
}

// sums[i] = or += dy_e' x_e with e = first + i, of rows sorted by all experts.
void expert_gradients_(at::TensorList sums, const at::Tensor& dy, const at::Tensor& x, at::IntArrayRef rows,
                       int64_t first, bool add) {
  TORCH_CHECK(!sums.empty() && first >= 0 && first + sums.size() <= rows.size(), "there are ", rows.size(), " experts");
  if (Grouped(x, rows).add_gradients(sums, dy, x, first, add)) return;
  const std::vector<Group> all = groups_of(x, rows);
  const size_t places = places_for(all, sums[0].scalar_type() == x.scalar_type() && without_workspace(x));
  const auto sum_of = [&](size_t expert) { return sums[expert - static_cast<size_t>(first)]; };
  std::vector<Group> some;
  const size_t end = static_cast<size_t>(first) + sums.size();
  for (const Group& group : all) {
    if (group.expert >= static_cast<size_t>(first) && group.expert < end) some.push_back(group);
  }
  for (size_t expert = static_cast<size_t>(first); !add && expert < end; expert++) {
    if (rows[expert] == 0) sum_of(expert).zero_();
  }
  for_each(some, places, [&](const Group& group, size_t) {
    Weight{at::Tensor(), sum_of(group.expert), !add}.add(group, dy, x);
  });
}

// sums[i] = or += the sum of the rows of dy of the expert first + i.
void expert_bias_gradients_(at::TensorList sums, const at::Tensor& dy, at::IntArrayRef rows, int64_t first, bool add) {
  TORCH_CHECK(!sums.empty() && first >= 0 && first + sums.size() <= rows.size(), "there are ", rows.size(), " experts");
  const size_t end = static_cast<size_t>(first) + sums.size();
  for (size_t expert = static_cast<size_t>(first); !add && expert < end; expert++) {
    if (rows[expert] == 0) at::Tensor(sums[expert - static_cast<size_t>(first)]).zero_();
  }
  for (const Group& group : groups_of(dy, rows)) {
    if (group.expert < static_cast<size_t>(first) || group.expert >= end) continue;
    Weight{at::Tensor(), sums[group.expert - static_cast<size_t>(first)], !add}.add_rows(group, dy);
  }
}

// The rest of the operators' arguments, and their defaults.
#define REVMOE_ACTIVATION \
  "Tensor[] biases, str activation=\"silu\", bool interleaved=False, float limit=7., float alpha=1.702"

}  // namespace

TORCH_LIBRARY(revmoe, library) {
  library.def("grouped_experts(Tensor x, Tensor[] gate_up, Tensor[] down, int[] rows, " REVMOE_ACTIVATION ") -> Tensor",
              &grouped_experts);
  library.def(
      "grouped_experts_keep(Tensor x, Tensor[] gate_up, Tensor[] down, int[] rows, Tensor[] kept, " REVMOE_ACTIVATION
      ") -> Tensor",
      &grouped_experts_keep);
  library.def("expert_gradients_(Tensor(a!)[] sums, Tensor dy, Tensor x, int[] rows, int first, bool add) -> ()",
              &expert_gradients_);
  library.def("expert_bias_gradients_(Tensor(a!)[] sums, Tensor dy, int[] rows, int first, bool add) -> ()",
              &expert_bias_gradients_);
}

// What decides how much memory the operators take, for the engine that only counts.
void init_experts(Napi::Env env, Napi::Object exports) {
  define(env, exports, "expertLimits", [](const Napi::CallbackInfo& info) -> Napi::Value {
    Napi::Object out = Napi::Object::New(info.Env());
    Napi::Array activations = Napi::Array::New(info.Env());
    for (const ActivationRow& row : kActivations) {
      Napi::Object each = Napi::Object::New(info.Env());
      each.Set("name", row.name);
      each.Set("gated", row.gated);
      activations.Set(activations.Length(), each);
    }
    out.Set("activations", activations);
    out.Set("manyRows", static_cast<double>(kManyRows));
    out.Set("groupedElements", static_cast<double>(kGroupedElements));
    out.Set("groupedKernel", static_cast<bool>(REVMOE_GROUPED_KERNEL));
    out.Set("wideSums", static_cast<bool>(REVMOE_WIDE_SUMS));
    return out;
  });
  define(env, exports, "steadyRows", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(steady_rows(info[0].As<Napi::Number>().Int64Value())));
  });
}

}  // namespace revmoe
