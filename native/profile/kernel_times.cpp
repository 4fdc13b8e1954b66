// What a GPU did while a program ran, by CUPTI: experiments/frontier/profile.mjs builds this library and names it in
// CUDA_INJECTION64_PATH, so that CUDA loads it into the program. When the program ends, it writes to the file named by
// REVMOE_KERNEL_TIMES: a line for each kernel, copy and fill, and for each CUDA call that took the program long, with
// start and end in nanoseconds and the name, separated by tabs. Not part of the addon.
#include <cupti.h>
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

namespace {

constexpr size_t kBufferBytes = size_t{1} << 23;
constexpr uint64_t kLongCallNs = 20000;

struct Record {
  uint64_t start, end;
  std::string name;
};

std::mutex lock;
std::vector<Record> records;

std::string demangled(const char* name) {
  int status = 0;
  char* const text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string result(status == 0 ? text : name);
  std::free(text);
  return result;
}

void requested(uint8_t** buffer, size_t* bytes, size_t* most) {
  *bytes = kBufferBytes;
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(64, kBufferBytes));
  *most = 0;
}

void completed(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid) {
  const std::lock_guard<std::mutex> hold(lock);
  CUpti_Activity* each = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid, &each) == CUPTI_SUCCESS) {
    if (each->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
      const auto* const kernel = reinterpret_cast<const CUpti_ActivityKernel10*>(each);
      records.push_back({kernel->start, kernel->end, demangled(kernel->name)});
    } else if (each->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
      const auto* const copy = reinterpret_cast<const CUpti_ActivityMemcpy6*>(each);
      constexpr const char* kKinds[] = {"", "to the device", "from the device"};
      records.push_back(
          {copy->start, copy->end, std::string("copy ") + (copy->copyKind < 3 ? kKinds[copy->copyKind] : "within")});
    } else if (each->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
      const auto* const fill = reinterpret_cast<const CUpti_ActivityMemset4*>(each);
      records.push_back({fill->start, fill->end, "fill"});
    } else if (each->kind == CUPTI_ACTIVITY_KIND_RUNTIME || each->kind == CUPTI_ACTIVITY_KIND_DRIVER) {
      const auto* const call = reinterpret_cast<const CUpti_ActivityAPI*>(each);
      if (call->end - call->start < kLongCallNs) continue;
      const char* name = nullptr;
      const bool runtime = each->kind == CUPTI_ACTIVITY_KIND_RUNTIME;
      cuptiGetCallbackName(runtime ? CUPTI_CB_DOMAIN_RUNTIME_API : CUPTI_CB_DOMAIN_DRIVER_API, call->cbid, &name);
      records.push_back({call->start, call->end, std::string("call ") + (name == nullptr ? "" : name)});
    }
  }
  std::free(buffer);
}

void write_all() {
  cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  const char* const path = std::getenv("REVMOE_KERNEL_TIMES");
  std::FILE* const file = path == nullptr ? nullptr : std::fopen(path, "w");
  if (file == nullptr) return;
  for (const Record& record : records)
    std::fprintf(file, "%llu\t%llu\t%s\n", static_cast<unsigned long long>(record.start),
                 static_cast<unsigned long long>(record.end), record.name.c_str());
  std::fclose(file);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
  bool ready = cuptiActivityRegisterCallbacks(requested, completed) == CUPTI_SUCCESS;
  for (const auto kind : {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET,
                          CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_ACTIVITY_KIND_DRIVER})
    ready = ready && cuptiActivityEnable(kind) == CUPTI_SUCCESS;
  if (ready) std::atexit(write_all);
  return ready;
}
