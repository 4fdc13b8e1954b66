// revmoe::grouped_experts, the experts of a layer: y_t = sum_a g_ta (act(x_t We' + be) Vd' + bd) over a token's choices
// a. Each expert has its own We, be, Vd and bd; act is a row of expert_activation.hpp, weights of gate and up are
// stacked, and biases may be missing. Rows sorted by expert exist only inside: a graph keeps x and the first products,
// and the backward pass gathers rows again. Gates multiply the input of the second products. So gradients of gates are
// sums over its narrower rows, and the second products' results need not be kept.
//
// The backward pass adds gradients of weights in place to existing ones, or overwrites them if `written` says that
// nothing was put there yet; it also overwrites what it kept. An expert often has too few rows for several threads, so
// experts with few rows get one thread each, if there are enough of them. Neither bits nor memory depend on the order:
// on a CPU, products of float32 and float64 need no workspace, and all other products run one after the other. Weights
// with another dtype than x are copied to it one at a time for each product, so a layer of copies never exists.
//
// On CUDA a single product costs as much as many of these need together. So bfloat16 products whose weights lie side by
// side go through libtorch's grouped kernel, all experts at once. Then nothing waits for the GPU in the forward pass,
// nor in the backward pass if `known` has the counts. With `kept`, four tensors of rows, no gradients of weights are
// made. These tensors keep their factors: rows of x, the gradient of the first products, the second products' input,
// and dy. From them revmoe::expert_gradients_ makes the gradients of some experts in the same way as the whole backward
// pass, so with the same bits.
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

// All arguments that are not inputs with a gradient.
struct Plan {
  Rows rows;
  Activation activation;
  std::vector<at::Tensor> kept;
  c10::optional<at::Tensor> written;

  bool keeps() const { return !kept.empty(); }
  // The tensor that keeps rows of this kind; undefined if there is none.
  at::Tensor keeper(size_t index) const { return keeps() ? kept[index] : at::Tensor(); }
  // The same rows, in the tensor that keeps them.
  at::Tensor keep(size_t index, const at::Tensor& made) const {
    return !keeps() || made.is_same(kept[index]) ? made : kept[index].copy_(made);
  }
};

struct Made {
  at::Tensor both_RG;
  at::Tensor y_TD;
};

Made value_of(const at::Tensor& x_TD, const at::Tensor& gates_TA, at::TensorList gate_up, at::TensorList down,
              at::TensorList biases, const Plan& plan) {
  const Rows& rows = plan.rows;
  const Layer layer(x_TD, gate_up, down, rows);
  at::Tensor rows_RD = plan.keeps() ? plan.kept[0] : at::empty({rows.all(), x_TD.size(1)}, x_TD.options());
  rows.gather(x_TD, rows_RD);
  const at::Tensor both_RG = plan.keep(1, layer.products(rows_RD, gate_up, /*transposed=*/true, plan.keeper(1)));
  // The second products are written to this place.
  if (plan.keeps() || layer.grouped.takes(both_RG, down)) rows_RD.reset();
  if (!biases.empty()) {
    for (const Group& group : layer.groups()) group.of(both_RG).add_(biases[group.expert].to(x_TD.scalar_type()));
  }
  const at::Tensor inner_RF = plan.activation.forward(rows, both_RG, gates_TA);
  const at::Tensor y_RD = layer.products(inner_RF, down, /*transposed=*/true, rows_RD);
  if (!biases.empty()) {
    const at::TensorList second = half_of(biases, true);
    const at::Tensor gates_R1 = rows.column(gates_TA, y_RD);
    for (const Group& group : layer.groups())
      group.of(y_RD).addcmul_(group.of(gates_R1), second[group.expert].to(y_RD.scalar_type()));
  }
  return {both_RG, rows.sums(y_RD)};
}

// Writes zeros for experts without rows, because nothing else writes their gradients.
void clear_without_rows(c10::ArrayRef<Gradient> sums, const Rows& rows) {
  const at::IntArrayRef counts = rows.by_expert();
  for (size_t i = 0; i < sums.size(); i++) {
    at::Tensor sum = sums[i].buffer;
    if (counts[i] == 0 && sums[i].fresh && sum.defined()) sum.zero_();
  }
}

// Adds dy_e' x_e of every expert to its gradient.
void add_products(const Grouped& grouped, const Rows& rows, c10::ArrayRef<Gradient> sums, const at::Tensor& dy,
                  const at::Tensor& x) {
  std::vector<at::Tensor> buffers;
  for (const Gradient& sum : sums) buffers.push_back(sum.buffer);
  if (grouped.add_gradients(buffers, dy, x, 0, !sums[0].fresh)) return;
  clear_without_rows(sums, rows);
  const bool alone = std::any_of(buffers.begin(), buffers.end(), [&](const at::Tensor& buffer) {
    return buffer.defined() && buffer.scalar_type() != x.scalar_type();
  });
  const std::vector<Group> groups = groups_of(x, rows.by_expert());
  for_each(groups, places_for(groups, !alone && without_workspace(x)),
           [&](const Group& group, size_t) { sums[group.expert].add(group, dy, x); });
}

struct GroupedExperts : torch::autograd::Function<GroupedExperts> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_TD, const at::Tensor& gates_TA,
                            at::TensorList gate_up, at::TensorList down, at::TensorList biases, Plan plan) {
    const Made made = value_of(x_TD, gates_TA, gate_up, down, biases, plan);
    variable_list saved{x_TD, gates_TA, made.both_RG, plan.rows.places_TA, plan.rows.counts};
    for (const at::TensorList& some : {gate_up, down, biases}) saved.insert(saved.end(), some.begin(), some.end());
    context->save_for_backward(saved);
    auto& data = context->saved_data;
    data["known"] = plan.rows.known;
    data["fused"] = plan.rows.fused;
    data["activation"] = std::string(plan.activation.name());
    data["interleaved"] = plan.activation.interleaved();
    data["limit"] = plan.activation.limit();
    data["alpha"] = plan.activation.alpha();
    data["kept"] = plan.kept;
    data["written"] = plan.written;
    return made.y_TD;
  }

  static Plan plan_of(AutogradContext* context, const at::Tensor& places_TA, const at::Tensor& counts) {
    auto& data = context->saved_data;
    return {{places_TA, counts, data["known"].toOptional<at::Tensor>(), data["fused"].toBool()},
            {data["activation"].toStringRef(), data["interleaved"].toBool(), data["limit"].toDouble(),
             data["alpha"].toDouble()},
            data["kept"].toTensorVector(),
            data["written"].toOptional<at::Tensor>()};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::TensorList inputs(saved);
    const Plan plan = plan_of(context, saved[3], saved[4]);
    const Rows& rows = plan.rows;
    const auto experts = static_cast<size_t>(rows.counts.numel());
    const at::Tensor x_TD = saved[0].detach(), gates_TA = saved[1].detach(), both_RG = saved[2];
    const at::TensorList gate_up = inputs.slice(5, experts), down = inputs.slice(5 + experts, experts);
    const at::TensorList biases = inputs.slice(5 + 2 * experts);
    const Layer layer(x_TD, gate_up, down, rows);
    // One for each input, and none for the plan.
    variable_list made(saved.size() - 2);
    const std::vector<Gradient> sums = sums_of(context, plan, inputs.slice(5), made);
    // The n-th part: the first products' weights, the second's, and biases of both.
    const auto part = [&](size_t n) { return c10::ArrayRef<Gradient>(sums).slice(n * experts, experts); };

    at::Tensor rows_RD = plan.keeps() ? plan.kept[3] : at::empty({rows.all(), x_TD.size(1)}, x_TD.options());
    rows.gather(gradients[0].contiguous(), rows_RD);
    at::Tensor inner_RF = plan.keep(2, layer.products(rows_RD, down, /*transposed=*/false, plan.keeper(2)));
    made[1] = plan.activation.back(rows, both_RG, inner_RF, gates_TA);
    if (!biases.empty()) {
      const at::Tensor d_gates_R = at::empty({rows.all()}, gates_TA.options());
      const at::Tensor gates_R1 = rows.column(gates_TA, rows_RD);
      for (const size_t which : {2, 3}) clear_without_rows(part(which), rows);
      for (const Group& group : layer.groups()) {
        const at::Tensor dy = group.of(rows_RD);
        const at::Tensor bias = biases[experts + group.expert].to(dy.scalar_type());
        group.of(d_gates_R).copy_(dy.mul(bias).sum(1, false, gates_TA.scalar_type()));
        part(3)[group.expert].add_rows(dy.mul(group.of(gates_R1)));
        part(2)[group.expert].add_rows(group.of(both_RG));
      }
      made[1].add_(rows.of_choices(d_gates_R));
    }
    if (!plan.keeps()) {
      add_products(layer.grouped, rows, part(1), rows_RD, inner_RF);
      inner_RF.reset();
      rows.gather(x_TD, rows_RD);
      add_products(layer.grouped, rows, part(0), both_RG, rows_RD);
    }
    if (plan.keeps() || layer.grouped.takes(both_RG, gate_up)) rows_RD.reset();
    if (context->needs_input_grad(0))
      made[0] = rows.sums(layer.products(both_RG, gate_up, /*transposed=*/false, rows_RD));
    return made;
  }

  // Where the gradients of weights and biases go; those that are created here are also in `made`. An expert without
  // rows gets none, or zeros.
  static std::vector<Gradient> sums_of(AutogradContext* context, const Plan& plan, at::TensorList weights,
                                       variable_list& made) {
    std::vector<Gradient> sums(weights.size());
    const auto experts = static_cast<size_t>(plan.rows.counts.numel());
    // Biases are small: if rows are kept, only gradients of weights are made later.
    const size_t first = plan.keeps() ? 2 * experts : 0;
    auto* const written = plan.written.has_value() ? static_cast<uint8_t*>(plan.written->data_ptr()) : nullptr;
    for (size_t i = first; i < weights.size(); i++) {
      if (!context->needs_input_grad(i + 2)) continue;
      at::Tensor buffer = weights[i].grad();
      const bool fresh = !buffer.defined() || (written != nullptr && written[i / experts] == 0);
      if (!buffer.defined() && plan.rows.by_expert()[i % experts] > 0)
        buffer = made[i + 2] = at::empty_like(weights[i]);
      sums[i] = {buffer, fresh};
    }
    for (size_t i = first; written != nullptr && i < weights.size(); i += experts) {
      if (context->needs_input_grad(i + 2)) written[i / experts] = 1;
    }
    return sums;
  }
};

void check(const at::Tensor& x, const at::Tensor& gates, at::TensorList gate_up, at::TensorList down,
           at::TensorList biases, const Plan& plan) {
  const Rows& rows = plan.rows;
  const auto experts = static_cast<size_t>(rows.counts.numel());
  TORCH_CHECK(experts > 0 && gate_up.size() == experts && down.size() == experts,
              "each expert needs its matrices and a number of rows");
  TORCH_CHECK(biases.empty() || biases.size() == 2 * experts, "each expert needs two biases, or none has one");
  check_dense(rows.places_TA, at::kLong, x.device());
  TORCH_CHECK(
      rows.places_TA.dim() == 2 && rows.places_TA.size(0) == x.size(0) && gates.sizes() == rows.places_TA.sizes(),
      "each choice of a token needs a place and a gate");
  TORCH_CHECK(!rows.fused || gates.scalar_type() == at::kFloat, "kernels take gates in float32");
  TORCH_CHECK(plan.kept.empty() || plan.kept.size() == 4, "four tensors keep rows, not ", plan.kept.size());
  if (x.is_cpu()) {
    int64_t all = 0;
    for (const int64_t each : rows.by_expert()) all += each;
    TORCH_CHECK(all == rows.all(), "there are ", rows.all(), " rows, and the experts have ", all);
  }
  for (size_t expert = 0; expert < experts; expert++) {
    const int64_t first = gate_up[expert].size(0), inner = down[expert].size(1), columns = plan.activation.columns();
    TORCH_CHECK(first == columns * inner, plan.activation.name(), " makes ", first, " columns to ", first / columns,
                ", and the second matrix takes ", inner);
  }
}

at::Tensor grouped_experts(const at::Tensor& x, const at::Tensor& gates, const at::Tensor& places,
                           const at::Tensor& counts, const c10::optional<at::Tensor>& known, at::TensorList gate_up,
                           at::TensorList down, at::TensorList biases, at::TensorList kept,
                           const c10::optional<at::Tensor>& written, bool fused, std::string name, bool interleaved,
                           double limit, double alpha) {
  const Plan plan{{places, counts, known, fused}, {name, interleaved, limit, alpha}, kept.vec(), written};
  check(x, gates, gate_up, down, biases, plan);
  const auto trained = [](at::TensorList tensors) {
    return std::any_of(tensors.begin(), tensors.end(), [](const at::Tensor& each) { return each.requires_grad(); });
  };
  const bool graph =
      at::GradMode::is_enabled() && (trained({x, gates}) || trained(gate_up) || trained(down) || trained(biases));
  const at::Tensor dense = x.contiguous(), dense_gates = gates.contiguous();
  if (!graph && kept.empty()) return value_of(dense, dense_gates, gate_up, down, biases, plan).y_TD;
  return GroupedExperts::apply(dense, dense_gates, gate_up, down, biases, plan);
}

// The row of every choice when rows are sorted by expert and then by token, and the number of rows of each expert.
std::tuple<at::Tensor, at::Tensor> expert_places(const at::Tensor& experts_of, int64_t experts) {
  check_dense(experts_of, at::kLong, experts_of.device());
  const int64_t choices = experts_of.numel();
  const int64_t chunks = (choices + kernels::kChunkChoices - 1) / kernels::kChunkChoices;
  const auto longs = [](const at::Tensor& tensor) { return static_cast<int64_t*>(tensor.data_ptr()); };
  const at::Tensor places = at::empty_like(experts_of), counts = at::empty({experts}, experts_of.options());
  const at::Tensor starts = at::empty({chunks, experts}, experts_of.options());
  const kernels::PlacesArgs args{longs(experts_of), longs(places), longs(starts), longs(counts), choices, experts};
  launch(kernels::expert_counts, args, chunks, experts_of.device());
  launch(kernels::expert_starts, args, 1, experts_of.device());
  launch(kernels::expert_places, args, chunks, experts_of.device());
  return {places, counts};
}

// Gradients of all experts, of which only some have a buffer.
std::vector<Gradient> some_of(at::TensorList sums, size_t experts, int64_t first, bool add) {
  TORCH_CHECK(!sums.empty() && first >= 0 && first + sums.size() <= experts, "there are ", experts, " experts");
  std::vector<Gradient> all(experts);
  for (size_t i = 0; i < sums.size(); i++) all[static_cast<size_t>(first) + i] = {sums[i], !add};
  return all;
}

// sums[i] = or += dy_e' x_e with e = first + i; the rows are those of all experts, sorted.
void expert_gradients_(at::TensorList sums, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& counts,
                       const c10::optional<at::Tensor>& known, int64_t first, bool add, bool fused) {
  const Rows rows({}, counts, known, fused);
  const std::vector<Gradient> some = some_of(sums, static_cast<size_t>(counts.numel()), first, add);
  const Grouped grouped(x, rows);
  if (!grouped.add_gradients(sums, dy, x, first, add)) add_products(grouped, rows, some, dy, x);
}

}  // namespace

TORCH_LIBRARY(revmoe, library) {
  library.def(
      "grouped_experts(Tensor x, Tensor gates, Tensor places, Tensor counts, Tensor? known, Tensor[] gate_up, Tensor[] "
      "down, Tensor[] "
      "biases, Tensor[] kept, Tensor? written, bool fused, str activation=\"silu\", bool interleaved=False, float "
      "limit=7., float alpha=1.702) -> Tensor",
      &grouped_experts);
  library.def(
      "expert_gradients_(Tensor(a!)[] sums, Tensor dy, Tensor x, Tensor counts, Tensor? known, int first, bool add, "
      "bool fused) -> ()",
      &expert_gradients_);
  library.def("take_products_(Tensor(a!) sums, Tensor made, Tensor counts, bool add) -> ()", &take_products);
  library.def("expert_places(Tensor experts_of, int experts) -> (Tensor, Tensor)", &expert_places);
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
