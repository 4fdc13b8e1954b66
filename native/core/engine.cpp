// The engine's own state: version, threads, devices, seeds and generators. And the addon's entry point.
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <dlfcn.h>

#include <atomic>

#include "core/table.hpp"

namespace revmoe {
namespace {

at::Generator generator_of(const Napi::CallbackInfo& info, size_t index) {
  return at::globalContext().defaultGenerator(c10::Device(info[index].As<Napi::String>().Utf8Value()));
}

}  // namespace

// libtorch does not pass its thread count on to a system OpenBLAS.
void set_blas_threads(int threads) {
  using Set = void (*)(int);
  static const std::vector<Set> setters = [] {
    std::vector<Set> found;
    for (const char* library : {"libopenblas.so.0", "libblas.so.3"}) {
      void* handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
      if (!handle) continue;
      if (auto* set = reinterpret_cast<Set>(dlsym(handle, "openblas_set_num_threads"))) found.push_back(set);
      dlclose(handle);
    }
    return found;
  }();
  for (const Set set : setters) set(threads);
}

void init_engine(Napi::Env env, Napi::Object exports) {
  define(env, exports, "engine", [](const Napi::CallbackInfo& info) -> Napi::Value {
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("version", TORCH_VERSION);
    out.Set("threads", at::get_num_threads());
    out.Set("cudaDevices", static_cast<double>(at::hasCUDA() ? at::getNumGPUs() : 0));
    out.Set("config", at::show_config());
    return out;
  });
  define(env, exports, "setThreads", [](const Napi::CallbackInfo& info) {
    const int threads = info[0].As<Napi::Number>().Int32Value();
    at::set_num_threads(threads);
    set_blas_threads(threads);
  });
  define(env, exports, "setSeed", [](const Napi::CallbackInfo& info) {
    at::manual_seed(static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value()));
  });
  define(env, exports, "setDeterministic", [](const Napi::CallbackInfo& info) {
#if REVMOE_TORCH >= 205
    // Flash attention has a deterministic backward pass.
    at::globalContext().setSDPUseCuDNN(!info[0].As<Napi::Boolean>().Value());
#endif
    at::globalContext().setDeterministicAlgorithms(info[0].As<Napi::Boolean>().Value(),
                                                   /*warn_only=*/REVMOE_TORCH < 201);
#if REVMOE_TORCH >= 202
    // Our code writes over fresh tensors anyway.
    at::globalContext().setDeterministicFillUninitializedMemory(false);
#endif
  });
  define(env, exports, "generatorState", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return to_js(info.Env(), generator_of(info, 0).get_state());
  });
  define(env, exports, "setGeneratorState",
         [](const Napi::CallbackInfo& info) { generator_of(info, 0).set_state(tensor_at(info, 1)); });
  // The one that libtorch goes back to: left at the first, every process would take memory there.
  define(env, exports, "setDevice", [](const Napi::CallbackInfo& info) {
    const c10::Device device(info[0].As<Napi::String>().Utf8Value());
    if (device.has_index()) c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
  });
  define(env, exports, "synchronize", [](const Napi::CallbackInfo& info) {
    const c10::Device device(info[0].As<Napi::String>().Utf8Value());
    const auto& hooks = at::detail::getCUDAHooks();
    if (at::hasCUDA()) hooks.deviceSynchronize(device.has_index() ? device.index() : hooks.current_device());
  });
}

}  // namespace revmoe

namespace {

// Handles, scopes and grad mode belong to one thread.
std::atomic<bool> in_use{false};

void claim(Napi::Env env) {
  if (in_use.exchange(true)) {
    Napi::Error refused =
        Napi::Error::New(env,
                         "the engine: another thread of this process has it, and its tensors belong to one thread. "
                         "Use it in that thread, or in a process of its own.");
    refused.Set("code", Napi::String::New(env, "ENGINE_IN_USE"));
    throw refused;
  }
  env.AddCleanupHook([] { in_use = false; });
}

}  // namespace

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  claim(env);
  revmoe::init_memory(env, exports);  // first: every allocation must be counted
  revmoe::init_table(env, exports);
  revmoe::init_op(env, exports);
  revmoe::init_storage(env, exports);
  revmoe::init_mapping(env, exports);
  revmoe::init_async_copy(env, exports);
  revmoe::init_autograd(env, exports);
  revmoe::init_engine(env, exports);
  revmoe::init_experts(env, exports);
  revmoe::init_cuda(env, exports);
  revmoe::init_signals(env, exports);
  revmoe::init_comm(env, exports);
  revmoe::init_nccl(env, exports);
  return exports;
}

NODE_API_MODULE(revmoe, Init)
