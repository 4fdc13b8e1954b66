// What an update does to every element of gradients, weights and state, in one pass (native/kernels: update.h,
// update8bit.h, squares.h):
//   revmoe::square_sum               sum of squares of float32 tensors, in float64
//   revmoe::store_weight_, move_     float32 values to a stored weight; w = keep w - rate u
//   revmoe::adamw_, adamw8bit_, sgd_, lion_   moments and weights of these optimizers
//   revmoe::nesterov_                the momentum of Muon; its direction replaces the gradient
#include <torch/library.h>

#include <algorithm>

#include "kernels/squares.h"
#include "kernels/update8bit.h"
#include "operators/stored.hpp"

namespace revmoe {
namespace {

using OptionalTensor = c10::optional<at::Tensor>;

float narrow(double value) { return static_cast<float>(value); }

at::Tensor square_sum(at::TensorList tensors) {
  TORCH_CHECK(!tensors.empty(), "no tensors");
  const c10::Device device = tensors[0].device();
  int64_t count = 0;
  for (const at::Tensor& x : tensors) count += kernels::chunks_of(x.numel());
  const auto doubles = at::TensorOptions(at::kDouble).device(device);
  at::Tensor sums = at::empty({count}, doubles);
  auto* of_chunk = static_cast<double*>(sums.data_ptr());
  for (const at::Tensor& x : tensors) {
    check_dense(x, at::kFloat, device);
    const int64_t chunks = kernels::chunks_of(x.numel());
    launch(kernels::chunk_squares_of,
           kernels::SquaresArgs{static_cast<const float*>(x.data_ptr()), x.numel(), of_chunk}, chunks, device);
    of_chunk += chunks;
  }
  do {
    const int64_t chunks = std::max<int64_t>(1, kernels::chunks_of(sums.numel()));
    const at::Tensor totals = at::empty({chunks}, doubles);
    const kernels::TotalArgs args{static_cast<const double*>(sums.data_ptr()), sums.numel(),
                                  static_cast<double*>(totals.data_ptr())};
    launch(kernels::total_of, args, chunks, device);
    sums = totals;
  } while (sums.numel() > 1);
  return sums.squeeze(0);
}

void store_weight_(at::Tensor w, const OptionalTensor& correction, int64_t seed, int64_t first,
                   const at::Tensor& value) {
  const Stored stored{w, correction, seed, first};
  const kernels::MoveArgs args{stored.args(), stored.beside(value), w.numel(), 0, 0};
  launch(stored.among(kernels::store_plain, kernels::store_rounded, kernels::store_corrected), args,
         kernels::chunks_of(w.numel()), w.device());
}

void move_(at::Tensor w, const OptionalTensor& correction, int64_t seed, int64_t first, const at::Tensor& u,
           double keep, double rate) {
  const Stored stored{w, correction, seed, first};
  const kernels::MoveArgs args{stored.args(), stored.beside(u), w.numel(), narrow(keep), narrow(rate)};
  launch(stored.among(kernels::move_plain, kernels::move_rounded, kernels::move_corrected), args,
         kernels::chunks_of(w.numel()), w.device());
}

kernels::AdamArgs adam_args(double gradient_scale, double beta1, double beta2, double epsilon, double keep, double rate,
                            double scale) {
  return {narrow(beta1), narrow(beta2), narrow(1 - beta1), narrow(1 - beta2),     narrow(epsilon),
          narrow(keep),  narrow(rate),  narrow(scale),     narrow(gradient_scale)};
}

void adamw_(at::Tensor w, const OptionalTensor& correction, int64_t seed, int64_t first, at::Tensor m, at::Tensor v,
            const at::Tensor& g, double gradient_scale, double beta1, double beta2, double epsilon, double keep,
            double rate, double scale) {
  const Stored stored{w, correction, seed, first};
  const kernels::AdamWArgs args{stored.args(),    adam_args(gradient_scale, beta1, beta2, epsilon, keep, rate, scale),
                                stored.beside(m), stored.beside(v),
                                stored.beside(g), w.numel()};
  launch(stored.among(kernels::adamw_plain, kernels::adamw_rounded, kernels::adamw_corrected), args,
         kernels::chunks_of(w.numel()), w.device());
}

void adamw8bit_(at::Tensor w, const OptionalTensor& correction, int64_t seed, int64_t first, at::Tensor m,
                at::Tensor m_scale, at::Tensor v, at::Tensor v_scale, const at::Tensor& g, double gradient_scale,
                double beta1, double beta2, double epsilon, double keep, double rate, double scale) {
  const Stored stored{w, correction, seed, first};
  const int64_t blocks = kernels::blocks_of(w.numel());
  const auto moment = [&](const at::Tensor& codes, const at::Tensor& scales) {
    return kernels::MomentArgs{stored.beside<uint8_t>(codes), stored.beside<float>(scales, blocks)};
  };
  const kernels::AdamW8bitArgs args{
      stored.args(),      adam_args(gradient_scale, beta1, beta2, epsilon, keep, rate, scale),
      moment(m, m_scale), moment(v, v_scale),
      stored.beside(g),   w.numel()};
  launch(stored.among(kernels::adamw8bit_plain, kernels::adamw8bit_rounded, kernels::adamw8bit_corrected), args,
         (blocks + kernels::kBlocksOfItem - 1) / kernels::kBlocksOfItem, w.device());
}

kernels::BufferArgs momentum_args(const Stored& stored, const at::Tensor& buffer, const at::Tensor& g,
                                  double gradient_scale, double beta1, double beta2, double keep, double rate) {
  return {stored.args(),          stored.beside(buffer), stored.beside(g), stored.w.numel(),
          narrow(gradient_scale), narrow(keep),          narrow(rate),     narrow(beta1),
          narrow(beta2),          narrow(1 - beta1),     narrow(1 - beta2)};
}

void sgd_(at::Tensor w, const OptionalTensor& correction, int64_t seed, int64_t first, at::Tensor buffer,
          const at::Tensor& g, double gradient_scale, double momentum, double keep, double rate) {
  const Stored stored{w, correction, seed, first};
  launch(stored.among(kernels::sgd_plain, kernels::sgd_rounded, kernels::sgd_corrected),
         momentum_args(stored, buffer, g, gradient_scale, momentum, 0, keep, rate), kernels::chunks_of(w.numel()),
         w.device());
}

void lion_(at::Tensor w, const OptionalTensor& correction, int64_t seed, int64_t first, at::Tensor m,
           const at::Tensor& g, double gradient_scale, double beta1, double beta2, double keep, double rate) {
  const Stored stored{w, correction, seed, first};
  launch(stored.among(kernels::lion_plain, kernels::lion_rounded, kernels::lion_corrected),
         momentum_args(stored, m, g, gradient_scale, beta1, beta2, keep, rate), kernels::chunks_of(w.numel()),
         w.device());
}

void nesterov_(at::Tensor buffer, at::Tensor g, double gradient_scale, double momentum) {
  for (const at::Tensor& x : {buffer, g}) check_dense(x, at::kFloat, g.device());
  TORCH_CHECK(buffer.numel() == g.numel(), "the sizes do not belong together");
  kernels::BufferArgs args{};
  args.buffer = static_cast<float*>(buffer.data_ptr());
  args.g = static_cast<float*>(g.data_ptr());
  args.elements = g.numel();
  args.gradient_scale = narrow(gradient_scale);
  args.new1 = narrow(1 - momentum);
  launch(kernels::nesterov_momentum, args, kernels::chunks_of(g.numel()), g.device());
}

}  // namespace

#define REVMOE_STORED "Tensor(a!) w, Tensor(b!)? correction, int seed, int first, "
#define REVMOE_ADAM                                                                                                   \
  "Tensor g, float gradient_scale, float beta1, float beta2, float epsilon, float keep, float rate, float scale) -> " \
  "()"

TORCH_LIBRARY_FRAGMENT(revmoe, library) {
  library.def("square_sum(Tensor[] tensors) -> Tensor", &square_sum);
  library.def("store_weight_(" REVMOE_STORED "Tensor value) -> ()", &store_weight_);
  library.def("move_(" REVMOE_STORED "Tensor u, float keep, float rate) -> ()", &move_);
  library.def("adamw_(" REVMOE_STORED "Tensor(c!) m, Tensor(d!) v, " REVMOE_ADAM, &adamw_);
  library.def("adamw8bit_(" REVMOE_STORED
              "Tensor(c!) m, Tensor(d!) m_scale, Tensor(e!) v, Tensor(f!) v_scale, " REVMOE_ADAM,
              &adamw8bit_);
  library.def("sgd_(" REVMOE_STORED
              "Tensor(c!) buffer, Tensor g, float gradient_scale, float momentum, float keep, float rate) -> ()",
              &sgd_);
  library.def("lion_(" REVMOE_STORED
              "Tensor(c!) m, Tensor g, float gradient_scale, float beta1, float beta2, float keep, float rate) -> ()",
              &lion_);
  library.def("nesterov_(Tensor(a!) buffer, Tensor(b!) g, float gradient_scale, float momentum) -> ()", &nesterov_);
}

}  // namespace revmoe
