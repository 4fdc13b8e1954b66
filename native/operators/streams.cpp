// Steps of residual streams on an integer grid, in one pass each (native/kernels/streams.h, momentum.h):
//   revmoe::stream_add_         out = stream + round(scale y)
//   revmoe::stream_float_       x = unit stream as float32, after subtracting another stream, if there is one
//   revmoe::momentum_, revmoe::momentum_back_   the momentum coupling with its dropped bits, and its inverse
//   revmoe::momentum_gradient_  its gradients
// Streams are dense int32 or int64, branches' outputs float32 or bfloat16; `flags` are the two numbers of streams.h.
#include <torch/library.h>

#include "kernels/momentum.h"
#include "operators/launch.hpp"

namespace revmoe {
namespace {

using kernels::Kernel;
using OptionalTensor = c10::optional<at::Tensor>;

// The address of a stream with as many elements as `like` has.
void* stream_like(const at::Tensor& like, const at::Tensor& stream) {
  check_dense(stream, like.scalar_type() == at::kLong ? at::kLong : at::kInt, like.device());
  TORCH_CHECK(stream.numel() == like.numel(), "streams of different sizes");
  return stream.data_ptr();
}

void* floats_for(const at::Tensor& stream, const at::Tensor& floats, at::ScalarType type = at::kFloat) {
  check_dense(floats, type, stream.device());
  TORCH_CHECK(floats.numel() == stream.numel(), "a stream and floats of different sizes");
  return floats.data_ptr();
}

void* branch_for(const at::Tensor& stream, const at::Tensor& y) {
  return floats_for(stream, y, y.scalar_type() == at::kBFloat16 ? at::kBFloat16 : at::kFloat);
}

uint64_t* flags_for(const at::Tensor& stream, const at::Tensor& flags) {
  check_dense(flags, at::kDouble, stream.device());
  TORCH_CHECK(flags.numel() == 2, "expected two flags");
  return static_cast<uint64_t*>(flags.data_ptr());
}

const float* signs_for(const at::Tensor& like, const OptionalTensor& signs) {
  if (!signs.has_value()) return nullptr;
  check_dense(*signs, at::kFloat, like.device());
  TORCH_CHECK(like.dim() == 2 && signs->numel() == like.size(0), "expected a sign for each token");
  return static_cast<const float*>(signs->data_ptr());
}

int64_t width_of(const at::Tensor& t) { return t.dim() == 2 ? std::max<int64_t>(1, t.size(1)) : 1; }

// The kernel of four for these types of stream and floats.
const Kernel& kernel_for(const at::Tensor& stream, const at::Tensor& y, const Kernel& int32_float,
                         const Kernel& int32_bfloat16, const Kernel& int64_float, const Kernel& int64_bfloat16) {
  const bool narrow = y.scalar_type() == at::kBFloat16;
  if (stream.scalar_type() == at::kLong) return narrow ? int64_bfloat16 : int64_float;
  return narrow ? int32_bfloat16 : int32_float;
}

void stream_add_(at::Tensor out, const OptionalTensor& stream, const at::Tensor& y, double scale, at::Tensor flags) {
  const kernels::StreamAddArgs args{stream_like(out, out), stream.has_value() ? stream_like(out, *stream) : nullptr,
                                    branch_for(out, y),    flags_for(out, flags),
                                    out.numel(),           scale};
  launch(kernel_for(out, y, kernels::stream_add_int32_float, kernels::stream_add_int32_bfloat16,
                    kernels::stream_add_int64_float, kernels::stream_add_int64_bfloat16),
         args, kernels::chunks_of(out.numel()), out.device());
}

void stream_float_(at::Tensor x, at::Tensor stream, const OptionalTensor& less, double unit) {
  const kernels::StreamFloatArgs args{static_cast<float*>(floats_for(stream, x)), stream_like(stream, stream),
                                      less.has_value() ? stream_like(stream, *less) : nullptr, stream.numel(), unit};
  launch(stream.scalar_type() == at::kLong ? kernels::stream_float_int64 : kernels::stream_float_int32, args,
         kernels::chunks_of(stream.numel()), stream.device());
}

// Fills in all arguments except the streams; returns the number of items: chunks of bytes if bits are kept.
int64_t complete(kernels::MomentumArgs& args, const at::Tensor& v, const at::Tensor& y, const OptionalTensor& bits,
                 const OptionalTensor& signs, double unit, double gamma, int64_t shift, int64_t slot,
                 const at::Tensor& flags) {
  args.y = branch_for(v, y);
  args.signs = signs_for(v, signs);
  args.flags = flags_for(v, flags);
  args.elements = v.numel();
  args.width = width_of(v);
  args.scale = (1 - gamma) * unit;
  args.opposite = (1 + gamma) * unit;
  args.shift = static_cast<int32_t>(shift);
  args.sign = gamma < 0 ? -1 : gamma > 0;
  if (!bits.has_value()) return kernels::chunks_of(v.numel());
  check_dense(*bits, at::kByte, v.device());
  TORCH_CHECK(slot > 0 && 8 % slot == 0 && shift <= slot && bits->numel() * 8 == v.numel() * slot,
              "the bits are of another stream");
  args.bits = static_cast<uint8_t*>(bits->data_ptr());
  args.slot = static_cast<int32_t>(slot);
  return kernels::chunks_of(bits->numel());
}

void momentum_(at::Tensor p_next, at::Tensor v_next, OptionalTensor bits, const at::Tensor& p, const at::Tensor& v,
               const at::Tensor& y, const OptionalTensor& signs, double unit, double gamma, int64_t shift, int64_t slot,
               at::Tensor flags) {
  kernels::MomentumArgs args{stream_like(v, p_next), stream_like(v, v_next), stream_like(v, p), stream_like(v, v)};
  const int64_t items = complete(args, v, y, bits, signs, unit, gamma, shift, slot, flags);
  launch(kernel_for(v, y, kernels::momentum_int32_float, kernels::momentum_int32_bfloat16,
                    kernels::momentum_int64_float, kernels::momentum_int64_bfloat16),
         args, items, v.device());
}

void momentum_back_(at::Tensor v, const OptionalTensor& bits, const at::Tensor& y, const OptionalTensor& signs,
                    double unit, double gamma, int64_t shift, int64_t slot, at::Tensor flags) {
  TORCH_CHECK(shift == 0 || bits.has_value(), "the dropped bits of a stream are missing");
  kernels::MomentumArgs args{nullptr, stream_like(v, v), nullptr, stream_like(v, v)};
  const int64_t items = complete(args, v, y, bits, signs, unit, gamma, shift, slot, flags);
  launch(kernel_for(v, y, kernels::momentum_back_int32_float, kernels::momentum_back_int32_bfloat16,
                    kernels::momentum_back_int64_float, kernels::momentum_back_int64_bfloat16),
         args, items, v.device());
}

void momentum_gradient_(at::Tensor dv, at::Tensor dy, const at::Tensor& dp, const OptionalTensor& signs, double gamma) {
  const kernels::MomentumGradientArgs args{static_cast<float*>(floats_for(dv, dv)),
                                           static_cast<float*>(floats_for(dv, dy)),
                                           static_cast<const float*>(floats_for(dv, dp)),
                                           signs_for(dv, signs),
                                           dv.numel(),
                                           width_of(dv),
                                           static_cast<float>(gamma)};
  launch(kernels::momentum_gradient, args, kernels::chunks_of(dv.numel()), dv.device());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(revmoe, library) {
  library.def("stream_add_(Tensor(a!) out, Tensor? stream, Tensor y, float scale, Tensor(b!) flags) -> ()",
              &stream_add_);
  library.def("stream_float_(Tensor(a!) x, Tensor(b!) stream, Tensor? less, float unit) -> ()", &stream_float_);
  library.def(
      "momentum_(Tensor(a!) p_next, Tensor(b!) v_next, Tensor(c!)? bits, Tensor p, Tensor v, Tensor y, Tensor? signs, "
      "float unit, float gamma, int shift, int slot, Tensor(d!) flags) -> ()",
      &momentum_);
  library.def(
      "momentum_back_(Tensor(a!) v, Tensor? bits, Tensor y, Tensor? signs, float unit, float gamma, int shift, int "
      "slot, Tensor(b!) flags) -> ()",
      &momentum_back_);
  library.def("momentum_gradient_(Tensor(a!) dv, Tensor(b!) dy, Tensor dp, Tensor? signs, float gamma) -> ()",
              &momentum_gradient_);
}

}  // namespace revmoe
