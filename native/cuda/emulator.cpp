// Opens the emulated GPU at the first use of an address or a kernel, and passes calls on to it. Used only with
// REVMOE_CPU=emulated.
#include "cuda/emulator.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

namespace revmoe {
namespace {

struct Emulator {
  const char* (*launch)(const char* name, const void* args, size_t bytes, int64_t items);
  void (*made)(const void* data, size_t bytes);
  void (*freed)(const void* data);

  Emulator() {
    Dl_info addon;
    dladdr(reinterpret_cast<const void*>(&emulates), &addon);
    const std::string path = addon.dli_fname;
    const std::string file = path.substr(0, path.rfind('/') + 1) + "kernels-emulated.so";
    void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    TORCH_CHECK(library != nullptr, "REVMOE_CPU=emulated: ", dlerror(), "; node setup/emulate.mjs builds it");
    launch = reinterpret_cast<decltype(launch)>(dlsym(library, "revmoe_emulated_launch"));
    made = reinterpret_cast<decltype(made)>(dlsym(library, "revmoe_emulated_made"));
    freed = reinterpret_cast<decltype(freed)>(dlsym(library, "revmoe_emulated_freed"));
  }
};

const Emulator& emulator() {
  static const Emulator opened;
  return opened;
}

}  // namespace

bool emulates() {
  static const bool wanted = [] {
    const char* const choice = std::getenv("REVMOE_CPU");
    return choice != nullptr && std::strcmp(choice, "emulated") == 0;
  }();
  return wanted;
}

void launch_emulated(const char* name, const void* args, size_t bytes, int64_t items) {
  const char* const wrong = emulator().launch(name, args, bytes, items);
  TORCH_CHECK(wrong == nullptr, wrong);
}

void emulator_made(const void* data, size_t bytes) {
  if (emulates()) emulator().made(data, bytes);
}

void emulator_freed(const void* data) {
  if (emulates()) emulator().freed(data);
}

}  // namespace revmoe
