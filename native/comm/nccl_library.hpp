// The functions of NCCL that lanes call, found by dlopen. The layouts and numbers are those of nccl.h, 2.18 and newer. A library stays open for ever.
#pragma once
#include <dlfcn.h>

#include <climits>
#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace revmoe {

using Comm = struct OpaqueComm*;

constexpr int kSuccess = 0;
constexpr int kRemoteError = 6;
constexpr int kInProgress = 7;
constexpr int kBytes = 1;  // ncclUint8

// NCCL cannot be used here, whatever other ranks do.
struct Unusable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct UniqueId {
  char bytes[128];
};

// The fields of 2.18; later versions take a shorter one than theirs.
struct Config {
  size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = 21800;
  int blocking = 0;
  int cga_cluster_size = INT_MIN, min_ctas = INT_MIN, max_ctas = INT_MIN;
  const char* net_name = nullptr;
  int split_share = INT_MIN;
};

struct Nccl {
  int (*version)(int*);
  const char* (*words)(int);
  int (*unique_id)(UniqueId*);
  int (*init)(Comm*, int world, UniqueId, int rank, Config*);
  int (*group_start)();
  int (*group_end)();
  int (*send)(const void*, size_t, int type, int peer, Comm, void* stream);
  int (*receive)(void*, size_t, int type, int peer, Comm, void* stream);
  int (*state)(Comm, int*);
  int (*abort)(Comm);
  int (*destroy)(Comm);
  const char* (*last_error)(Comm) = nullptr;
  // Of a stand-in that moves main memory (native/emulated/nccl.cpp), in place of a stream's events; else null.
  long (*mark)(Comm) = nullptr;
  int (*reached)(Comm, long) = nullptr;

  explicit Nccl(const std::string& path) {
    void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw Unusable(dlerror());
    const auto find = [&](const char* name, auto& function, bool must = true) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
      if (must && function == nullptr) throw Unusable(path + " has no " + name);
    };
    find("ncclGetVersion", version);
    find("ncclGetErrorString", words);
    find("ncclGetUniqueId", unique_id);
    find("ncclCommInitRankConfig", init);
    find("ncclGroupStart", group_start);
    find("ncclGroupEnd", group_end);
    find("ncclSend", send);
    find("ncclRecv", receive);
    find("ncclCommGetAsyncError", state);
    find("ncclCommAbort", abort);
    find("ncclCommDestroy", destroy);
    find("ncclGetLastError", last_error, false);
    find("revmoe_emulated_mark", mark, false);
    find("revmoe_emulated_reached", reached, false);
  }
};

inline const Nccl& opened(const std::string& path) {
  static std::map<std::string, Nccl> libraries;
  const auto found = libraries.find(path);
  return found != libraries.end() ? found->second : libraries.emplace(path, Nccl(path)).first->second;
}

}  // namespace revmoe
