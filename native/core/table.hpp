// The table of tensors that JavaScript can name. A handle is an integer, generation * 2^24 + slot, so the handle of a
// freed tensor is always recognised. A scope owns the tensors that were made while it was innermost; depth 0 owns
// nothing.
#pragma once
#ifndef NODE_ADDON_API_CPP_EXCEPTIONS_ALL
#error "define NODE_ADDON_API_CPP_EXCEPTIONS_ALL: without it a C++ exception ends the process"
#endif
#include <ATen/ATen.h>
#include <napi.h>
#include <torch/csrc/api/include/torch/version.h>

#include <atomic>
#include <string>
#include <vector>

/** 213 for libtorch 2.13. */
#define REVMOE_TORCH (TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR)

namespace revmoe {

double add_tensor(at::Tensor tensor);
const at::Tensor& get_tensor(double handle);
at::Tensor tensor_at(const Napi::CallbackInfo& info, size_t index);
std::vector<at::Tensor> tensors_at(const Napi::CallbackInfo& info, size_t index);
Napi::Value to_js(Napi::Env env, const at::Tensor& tensor);
size_t live_handles();

const char* dtype_name(at::ScalarType type);
at::ScalarType dtype_from(const std::string& name);
std::string describe(const at::Tensor& tensor);

/** Bytes of files that are mapped now. */
extern std::atomic<size_t> mapped_bytes;
/** To be called after mmap and before munmap; see cut_files.cpp. */
void watch_mapping(void* start, size_t length, const std::string& path);
void forget_mapping(void* start);
extern std::atomic<int> cut_files;
void throw_cut_file(Napi::Env env);
/**
 * Throws if a mapped file was cut short, because then no result can be trusted. Called after anything that may have
 * read one.
 */
inline void check_files(Napi::Env env) {
  if (cut_files.load(std::memory_order_relaxed) != 0) throw_cut_file(env);
}

/** For BLAS libraries that do not follow libtorch's thread count. */
void set_blas_threads(int threads);

/** The next larger of sixteen sizes to a doubling; the smallest sizes are multiples of `unit`. */
template <typename Size>
Size round_up_sixteenth(Size size, Size unit) {
  while (unit * 32 <= size) unit *= 2;
  return (size + unit - 1) / unit * unit;
}

void init_table(Napi::Env env, Napi::Object exports);
void init_op(Napi::Env env, Napi::Object exports);
void init_storage(Napi::Env env, Napi::Object exports);
void init_mapping(Napi::Env env, Napi::Object exports);
void init_async_copy(Napi::Env env, Napi::Object exports);
void init_autograd(Napi::Env env, Napi::Object exports);
void init_memory(Napi::Env env, Napi::Object exports);
void init_engine(Napi::Env env, Napi::Object exports);
void init_experts(Napi::Env env, Napi::Object exports);
void init_cuda(Napi::Env env, Napi::Object exports);
void init_signals(Napi::Env env, Napi::Object exports);
void init_comm(Napi::Env env, Napi::Object exports);
void init_nccl(Napi::Env env, Napi::Object exports);

template <typename Function>
void define(Napi::Env env, Napi::Object exports, const char* name, Function function) {
  exports.Set(name, Napi::Function::New(env, function, name));
}

}  // namespace revmoe
