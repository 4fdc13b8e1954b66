// The driver, by dlopen of libcuda.so.1: loads a cubin for a GPU and launches its kernels in the context and on the
// stream that libtorch uses there. Also the functions of this folder for JavaScript.
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <map>
#include <mutex>

#include "core/table.hpp"
#include "cuda/cuda.hpp"
#include "cuda/nvrtc.hpp"
#include "operators/launch.hpp"

namespace revmoe {
namespace {

// The same as in native/kernels/kernel.h.
constexpr unsigned kThreads = 256;
constexpr int64_t kMostBlocks = int64_t{1} << 20;
constexpr int kMajor = 75;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
constexpr int kMinor = 76;

struct Driver {
  int (*device)(int*, int ordinal);
  int (*attribute)(int*, int attribute, int device);
  int (*version)(int*);
  int (*context)(void**);
  int (*use_context)(void*);
  int (*load)(void** module, const void* image);
  int (*function)(void** function, void* module, const char* name);
  int (*launch)(void* function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned shared,
                void* stream, void** arguments, void** extra);
  int (*words)(int, const char**);

  Driver() {
    void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    TORCH_CHECK(library != nullptr, dlerror());
    const auto find = [&](const char* name, auto& function) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
      TORCH_CHECK(function != nullptr, "libcuda.so.1 has no ", name);
    };
    find("cuDeviceGet", device);
    find("cuDeviceGetAttribute", attribute);
    find("cuDriverGetVersion", version);
    find("cuCtxGetCurrent", context);
    find("cuCtxSetCurrent", use_context);
    find("cuModuleLoadData", load);
    find("cuModuleGetFunction", function);
    find("cuLaunchKernel", launch);
    find("cuGetErrorString", words);
  }

  void check(int result, const std::string& doing) const {
    if (result == 0) return;
    const char* why = nullptr;
    words(result, &why);
    TORCH_CHECK(false, doing, ": ", why == nullptr ? std::to_string(result) : why);
  }
};

const Driver& driver() {
  static const Driver opened;
  return opened;
}

struct Loaded {
  void* context = nullptr;
  std::vector<void*> modules;
  std::map<std::string, void*> functions;
};

std::mutex lock;
std::map<int, Loaded> loaded;  // by GPU

void load(int index, const std::vector<const void*>& cubins) {
  const c10::Device device(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
  const c10::DeviceGuard guard(device);
  const at::Tensor first_use = at::empty({1}, at::TensorOptions(at::kByte).device(device));  // creates the context
  Loaded made;
  driver().check(driver().context(&made.context), "cuCtxGetCurrent");
  for (const void* const cubin : cubins)
    driver().check(driver().load(&made.modules.emplace_back(), cubin), "cuModuleLoadData");
  const std::lock_guard<std::mutex> hold(lock);
  loaded[index] = made;
}

std::pair<void*, void*> context_and_function(const char* name, int index) {
  const std::lock_guard<std::mutex> hold(lock);
  const auto found = loaded.find(index);
  TORCH_CHECK(found != loaded.end(), name, ": cuda:", index, " has no kernels loaded");
  void*& function = found->second.functions[name];
  int result = 0;
  for (size_t i = 0; function == nullptr && i < found->second.modules.size(); i++)
    result = driver().function(&function, found->second.modules[i], name);
  driver().check(function == nullptr ? result : 0, name);
  return {found->second.context, function};
}

}  // namespace

void launch_on_gpu(const char* name, const void* args, size_t, int64_t items, c10::Device device) {
#if REVMOE_TORCH >= 211
  const auto [context, function] = context_and_function(name, device.index());
  void* current = nullptr;
  driver().check(driver().context(&current), name);
  if (current != context) driver().check(driver().use_context(context), name);
  void* const stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
  void* arguments[] = {const_cast<void*>(args), &items};
  const auto blocks = static_cast<unsigned>(std::min(items, kMostBlocks));
  driver().check(driver().launch(function, blocks, 1, 1, kThreads, 1, 1, 0, stream, arguments, nullptr), name);
#else
  TORCH_CHECK(false, name, ": this libtorch does not hand out its streams (2.11 and later do)");
#endif
}

void init_cuda(Napi::Env env, Napi::Object exports) {
  define(env, exports, "compileKernels", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const auto texts = [&](size_t argument) {
      std::vector<std::string> all;
      const Napi::Array given = info[argument].As<Napi::Array>();
      for (uint32_t i = 0; i < given.Length(); i++) all.push_back(given.Get(i).As<Napi::String>().Utf8Value());
      return all;
    };
    try {
      Napi::Array cubins = Napi::Array::New(info.Env());
      for (const auto& each : compile_cuda(info[0].As<Napi::String>().Utf8Value(), texts(1), texts(2)))
        cubins.Set(cubins.Length(), Napi::Buffer<char>::Copy(info.Env(), each.data(), each.size()));
      return cubins;
    } catch (const std::runtime_error& failure) {
      throw Napi::Error::New(info.Env(), failure.what());
    }
  });
  define(env, exports, "nvrtcVersion", [](const Napi::CallbackInfo& info) -> Napi::Value {
    try {
      return Napi::String::New(info.Env(), nvrtc_version(info[0].As<Napi::String>().Utf8Value()));
    } catch (const std::runtime_error& failure) {
      throw Napi::Error::New(info.Env(), failure.what());
    }
  });
  define(env, exports, "kernelsOfCpu",
         [](const Napi::CallbackInfo& info) -> Napi::Value { return Napi::String::New(info.Env(), kernels_of_cpu()); });
  define(env, exports, "launchesKernels", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return Napi::Boolean::New(info.Env(), REVMOE_TORCH >= 211);
  });
  define(env, exports, "gpuFacts", [](const Napi::CallbackInfo& info) -> Napi::Value {
    int device = 0, major = 0, minor = 0, version = 0;
    driver().check(driver().device(&device, info[0].As<Napi::Number>().Int32Value()), "cuDeviceGet");
    driver().check(driver().attribute(&major, kMajor, device), "cuDeviceGetAttribute");
    driver().check(driver().attribute(&minor, kMinor, device), "cuDeviceGetAttribute");
    driver().check(driver().version(&version), "cuDriverGetVersion");
    Napi::Object facts = Napi::Object::New(info.Env());
    facts.Set("capability", major * 10 + minor);
    facts.Set("driver", version);
    return facts;
  });
  define(env, exports, "loadKernels", [](const Napi::CallbackInfo& info) {
    std::vector<const void*> cubins;
    const Napi::Array given = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < given.Length(); i++) cubins.push_back(given.Get(i).As<Napi::Uint8Array>().Data());
    load(info[0].As<Napi::Number>().Int32Value(), cubins);
  });
}

}  // namespace revmoe
