// The part of NVRTC's interface that is used (nvrtc.h, which is the same here in CUDA 12 and 13).
#include "cuda/nvrtc.hpp"

#include <dlfcn.h>

#include <future>
#include <map>
#include <stdexcept>

namespace revmoe {
namespace {

using Program = struct Opaque*;

struct Nvrtc {
  int (*create)(Program*, const char* source, const char* name, int headers, const char* const* texts,
                const char* const* names);
  int (*compile)(Program, int count, const char* const* options);
  int (*log_size)(Program, size_t*);
  int (*log)(Program, char*);
  int (*cubin_size)(Program, size_t*);
  int (*cubin)(Program, char*);
  int (*destroy)(Program*);
  int (*version)(int* major, int* minor);
  const char* (*words)(int);

  explicit Nvrtc(const std::string& path) {
    void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw std::runtime_error(dlerror());
    const auto find = [&](const char* name, auto& function) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
      if (function == nullptr) throw std::runtime_error(path + " has no " + name);
    };
    find("nvrtcCreateProgram", create);
    find("nvrtcCompileProgram", compile);
    find("nvrtcGetProgramLogSize", log_size);
    find("nvrtcGetProgramLog", log);
    find("nvrtcGetCUBINSize", cubin_size);
    find("nvrtcGetCUBIN", cubin);
    find("nvrtcDestroyProgram", destroy);
    find("nvrtcVersion", version);
    find("nvrtcGetErrorString", words);
  }
};

const Nvrtc& opened(const std::string& path) {
  static std::map<std::string, Nvrtc> libraries;
  const auto found = libraries.find(path);
  return found != libraries.end() ? found->second : libraries.emplace(path, Nvrtc(path)).first->second;
}

std::vector<char> compile(const Nvrtc& nvrtc, const std::string& source, const std::vector<std::string>& options) {
  Program program = nullptr;
  const auto check = [&](int result, const char* doing) {
    if (result == 0) return;
    std::string words = std::string(doing) + ": " + nvrtc.words(result);
    size_t size = 0;
    if (program != nullptr && nvrtc.log_size(program, &size) == 0 && size > 1) {
      std::string log(size, '\0');
      nvrtc.log(program, log.data());
      words += "\n" + log.substr(0, size - 1);
    }
    if (program != nullptr) nvrtc.destroy(&program);
    throw std::runtime_error(words);
  };
  check(nvrtc.create(&program, source.c_str(), "revmoe.cu", 0, nullptr, nullptr), "nvrtcCreateProgram");
  std::vector<const char*> words;
  for (const std::string& option : options) words.push_back(option.c_str());
  check(nvrtc.compile(program, static_cast<int>(words.size()), words.data()), "nvrtcCompileProgram");
  size_t size = 0;
  check(nvrtc.cubin_size(program, &size), "nvrtcGetCUBINSize");
  std::vector<char> cubin(size);
  check(nvrtc.cubin(program, cubin.data()), "nvrtcGetCUBIN");
  nvrtc.destroy(&program);
  return cubin;
}

}  // namespace

std::string nvrtc_version(const std::string& library) {
  int major = 0, minor = 0;
  opened(library).version(&major, &minor);
  return std::to_string(major) + "." + std::to_string(minor);
}

std::vector<std::vector<char>> compile_cuda(const std::string& library, const std::vector<std::string>& sources,
                                            const std::vector<std::string>& options) {
  const Nvrtc& nvrtc = opened(library);
  std::vector<std::future<std::vector<char>>> compiling;
  for (const std::string& source : sources)
    compiling.push_back(std::async(std::launch::async, [&] { return compile(nvrtc, source, options); }));
  std::vector<std::vector<char>> cubins;
  for (auto& each : compiling) cubins.push_back(each.get());
  return cubins;
}

}  // namespace revmoe
