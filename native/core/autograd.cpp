// The parts of automatic differentiation that are not operators: gradients of outputs, accumulation into given buffers,
// grad mode. `backward` adds each leaf's gradient in place to the tensor that `setGrad` put there. So a block's
// gradient exists once, in the block's buffer, however many micro-batches contribute to it.
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include "core/table.hpp"

namespace revmoe {
namespace {

template <typename Call>
auto rethrowing(Napi::Env env, const char* name, Call call) {
  try {
    auto results = call();
    check_files(env);
    return results;
  } catch (const c10::OutOfMemoryError& failure) {
    Napi::Error out = Napi::Error::New(env, std::string(name) + ": " + failure.what_without_backtrace());
    out.Set("code", Napi::String::New(env, "OUT_OF_MEMORY"));
    throw out;
  } catch (const c10::Error& failure) {
    check_files(env);
    throw Napi::Error::New(env, std::string(name) + ": " + failure.what_without_backtrace());
  }
}

// After a failure, libtorch keeps its queue of waiting nodes, with all that their graph saved, until the next backward
// pass. This is such a pass, over nothing.
void forget_waiting() {
  const at::AutoGradMode recording(true);
  const at::Tensor nothing = at::empty({0}).requires_grad_();
  torch::autograd::backward({nothing.mul(1)}, {nothing.detach()}, false, false);
}

}  // namespace

void init_autograd(Napi::Env env, Napi::Object exports) {
  define(env, exports, "setGradMode", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const bool before = at::GradMode::is_enabled();
    at::GradMode::set_enabled(info[0].As<Napi::Boolean>().Value());
    return Napi::Boolean::New(info.Env(), before);
  });
  define(env, exports, "requireGrad", [](const Napi::CallbackInfo& info) {
    tensor_at(info, 0).set_requires_grad(info[1].As<Napi::Boolean>().Value());
  });
  define(env, exports, "setGrad", [](const Napi::CallbackInfo& info) {
    at::Tensor leaf = tensor_at(info, 0);
    leaf.mutable_grad() = info[1].IsNumber() ? tensor_at(info, 1) : at::Tensor();
  });
  define(env, exports, "takeGrad", [](const Napi::CallbackInfo& info) -> Napi::Value {
    at::Tensor leaf = tensor_at(info, 0);
    at::Tensor gradient = leaf.mutable_grad();
    leaf.mutable_grad() = at::Tensor();
    return to_js(info.Env(), gradient);
  });
  define(env, exports, "backward", [](const Napi::CallbackInfo& info) {
    const auto outputs = tensors_at(info, 0);
    const auto gradients = tensors_at(info, 1);
    rethrowing(info.Env(), "backward", [&] {
      try {
        torch::autograd::backward(outputs, gradients, false, false);
      } catch (...) {
        forget_waiting();
        throw;
      }
      return true;
    });
  });
  define(env, exports, "grad", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const auto outputs = tensors_at(info, 0);
    const auto inputs = tensors_at(info, 1);
    const auto gradients = tensors_at(info, 2);
    const auto results = rethrowing(info.Env(), "grad", [&] {
      return torch::autograd::grad(outputs, inputs, gradients, false, false, /*allow_unused=*/true);
    });
    Napi::Array array = Napi::Array::New(info.Env(), results.size());
    for (size_t i = 0; i < results.size(); i++) array.Set(static_cast<uint32_t>(i), to_js(info.Env(), results[i]));
    return array;
  });
}

}  // namespace revmoe
