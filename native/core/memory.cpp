// Exact memory figures. On the CPU every tensor byte passes through the allocator below, which counts live and peak
// bytes as they were asked for, so the figures are the same on every machine; CUDA reports its own caching allocator.
// glibc raises its mmap threshold by itself and then fragments memory; with a fixed one, freed blocks return to the
// system.
#include <c10/core/CPUAllocator.h>
#include <malloc.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>

#include "core/table.hpp"
#include "cuda/emulator.hpp"

#if REVMOE_TORCH >= 209
#include <c10/core/CachingDeviceAllocator.h>
#endif

namespace revmoe {
namespace {

constexpr size_t kAlignment = 64;
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kCachedFrom = SIZE_MAX;  // every block is its own, with watched ends, and is not reused
#else
constexpr size_t kCachedFrom = size_t{1} << 18;
#endif
constexpr size_t kLooseUpTo = size_t{1} << 23;  // larger blocks may be weights, and must fit
constexpr size_t kSlack = size_t{1} << 26;

std::atomic<size_t> live_bytes{0};
std::atomic<size_t> peak_bytes{0};
std::atomic<size_t> live_blocks{0};
std::atomic<size_t> limit_bytes{SIZE_MAX};
// By GPU: bytes that belong to its libraries and not to a tensor.
std::map<int, int64_t> library_bytes;

// Fresh pages cost more than the arithmetic that fills them, so large freed blocks are kept for reuse. There are
// sixteen sizes to a doubling. Held and kept bytes together may exceed the highest live bytes by at most kSlack;
// without this slack, the sizes of one part of a step push out those of the next at every turn, and a sixth of the time
// goes to fresh pages. An expert's number of rows differs from block to block, so sizes are rarely equal: a short-lived
// block may be up to twice as large as needed. Held bytes count a block's real size; only by that slack, for blocks up
// to kLooseUpTo, can they exceed live bytes.
std::mutex cache_lock;
std::map<size_t, std::vector<void*>> cache;
size_t cached_bytes = 0;
std::atomic<size_t> held_bytes{0};
std::atomic<size_t> highest_bytes{0};

[[noreturn]] void refuse(const char* who, size_t bytes) {
  const std::string in_use =
      std::to_string(bytes) + " bytes; " + std::to_string(live_bytes.load()) + " bytes are in use";
  throw c10::OutOfMemoryError({__func__, __FILE__, static_cast<uint32_t>(__LINE__)},
                              std::string(who) + " refused " + in_use);
}

// Stands in front of a block, one alignment unit wide: its sizes.
struct Header {
  size_t asked;
  size_t given;
};

size_t rounded(size_t bytes) {
  if (bytes < kCachedFrom) return bytes;
  return round_up_sixteenth(bytes, kCachedFrom / 16);
}

// The smallest kept block that is large enough; `given` becomes its size.
void* take_cached(size_t& given) {
  if (given < kCachedFrom) return nullptr;
  const std::lock_guard<std::mutex> guard(cache_lock);
  const size_t most = given <= kLooseUpTo ? 2 * given : given;
  for (auto found = cache.lower_bound(given); found != cache.end() && found->first <= most; ++found) {
    if (found->second.empty()) continue;
    void* start = found->second.back();
    found->second.pop_back();
    given = found->first;
    cached_bytes -= given;
    return start;
  }
  return nullptr;
}

// Frees kept blocks, the smallest first, until `needed` more bytes fit under the highest total so far plus kSlack.
void make_room(size_t needed) {
  const std::lock_guard<std::mutex> guard(cache_lock);
  for (auto& [size, blocks] : cache) {
    while (!blocks.empty() && held_bytes + cached_bytes + needed > highest_bytes + kSlack) {
      std::free(blocks.back());
      blocks.pop_back();
      cached_bytes -= size;
    }
  }
}

void raise(std::atomic<size_t>& most, size_t now) {
  size_t before = most;
  while (now > before && !most.compare_exchange_weak(before, now)) {
  }
}

void give_back(void* data) {
  if (!data) return;
  emulator_freed(data);
  char* start = static_cast<char*>(data) - kAlignment;
  const Header header = *reinterpret_cast<Header*>(start);
  live_bytes -= header.asked;
  held_bytes -= header.given;
  live_blocks--;
  if (header.given >= kCachedFrom) {
    const std::lock_guard<std::mutex> guard(cache_lock);
    if (held_bytes + cached_bytes + header.given <= highest_bytes + kSlack) {
      cache[header.given].push_back(start);
      cached_bytes += header.given;
      return;
    }
  }
  std::free(start);
}

struct CountingAllocator final : c10::Allocator {
#if REVMOE_TORCH >= 203
  c10::DataPtr allocate(size_t bytes) override { return take(bytes); }
  void copy_data(void* to, const void* from, size_t count) const override { default_copy_data(to, from, count); }
#else
  c10::DataPtr allocate(size_t bytes) const override { return take(bytes); }
#endif
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }

 private:
  static c10::DataPtr take(size_t bytes) {
    if (bytes == 0) return {nullptr, nullptr, &give_back, c10::Device(c10::DeviceType::CPU)};
    if (live_bytes + bytes > limit_bytes) refuse("the memory limit", bytes);
    size_t given = rounded(bytes);
    void* start = take_cached(given);
    if (!start) {
      make_room(given);
      if (posix_memalign(&start, kAlignment, given + kAlignment) != 0) refuse("the system", bytes);
    }
    *static_cast<Header*>(start) = {bytes, given};
    const size_t now = live_bytes += bytes;
    held_bytes += given;
    live_blocks++;
    raise(peak_bytes, now);
    raise(highest_bytes, now);
    void* data = static_cast<char*>(start) + kAlignment;
    emulator_made(data, bytes);
    return {data, data, &give_back, c10::Device(c10::DeviceType::CPU)};
  }
};

}  // namespace

void init_memory(Napi::Env env, Napi::Object exports) {
  static CountingAllocator allocator;
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
  c10::SetCPUAllocator(&allocator, 255);

  define(env, exports, "memory", [](const Napi::CallbackInfo& info) -> Napi::Value {
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("handles", static_cast<double>(live_handles()));
    out.Set("blocks", static_cast<double>(live_blocks.load()));
    out.Set("liveBytes", static_cast<double>(live_bytes.load()));
    out.Set("peakBytes", static_cast<double>(peak_bytes.load()));
    out.Set("mappedBytes", static_cast<double>(mapped_bytes.load()));
    out.Set("spareBytes", static_cast<double>(kSlack));
    return out;
  });
  define(env, exports, "resetPeak", [](const Napi::CallbackInfo&) { peak_bytes = live_bytes.load(); });
  define(env, exports, "setMemoryLimit", [](const Napi::CallbackInfo& info) {
    limit_bytes = static_cast<size_t>(info[0].As<Napi::Number>().Int64Value());
  });
  define(env, exports, "setLibraryBytes", [](const Napi::CallbackInfo& info) {
    library_bytes[info[0].As<Napi::Number>().Int32Value()] = info[1].As<Napi::Number>().Int64Value();
  });
  define(env, exports, "cudaMemory", [](const Napi::CallbackInfo& info) -> Napi::Value {
#if REVMOE_TORCH >= 209
    const auto index = static_cast<c10::DeviceIndex>(info[0].As<Napi::Number>().Int32Value());
    auto* device = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    if (!device->initialized()) return info.Env().Null();
    const auto stats = device->getDeviceStats(index);
    const int64_t held = library_bytes[index];
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("liveBytes", static_cast<double>(stats.allocated_bytes[0].current - held));
    out.Set("peakBytes", static_cast<double>(stats.allocated_bytes[0].peak - held));
    out.Set("reservedBytes", static_cast<double>(stats.reserved_bytes[0].current));
    if (info[1].ToBoolean().Value()) device->resetPeakStats(index);
    return out;
#else
    return info.Env().Null();
#endif
  });
}

}  // namespace revmoe
