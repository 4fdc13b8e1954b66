// Bytes in and out of tensors: raw copies from and to JavaScript buffers, and files mapped into memory. These mappings
// are private (copy on write), so an in-place update can never reach the file. Mapped bytes are counted apart from
// allocated ones, because the system may drop and reread them.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "core/table.hpp"

namespace revmoe {

std::atomic<size_t> mapped_bytes{0};

namespace {

std::pair<char*, size_t> window(const Napi::CallbackInfo& info, const at::Tensor& tensor, size_t length) {
  const double offset = info[1].As<Napi::Number>().DoubleValue();
  if (!tensor.device().is_cpu() || !tensor.is_contiguous()) {
    throw std::runtime_error(describe(tensor) + ": raw bytes need a contiguous tensor on the CPU");
  }
  if (!(offset >= 0 && offset + length <= tensor.nbytes() && std::floor(offset) == offset)) {
    throw std::runtime_error(describe(tensor) + ": bytes " + std::to_string(static_cast<int64_t>(offset)) + " to " +
                             std::to_string(static_cast<int64_t>(offset) + length) + " lie outside the tensor");
  }
  return {static_cast<char*>(tensor.data_ptr()) + static_cast<size_t>(offset), length};
}

at::Tensor map_file(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw std::runtime_error(path + ": " + std::strerror(errno));
  struct stat status {};
  fstat(file, &status);
  const size_t length = static_cast<size_t>(status.st_size);
  void* data = length ? mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0) : nullptr;
  const int failure = errno;
  close(file);
  if (data == MAP_FAILED) throw std::runtime_error(path + ": cannot be mapped: " + std::strerror(failure));
  if (!length) throw std::runtime_error(path + ": the file is empty");
  mapped_bytes += length;
  watch_mapping(data, length, path);
  const auto unmap = [length](void* start) {
    forget_mapping(start);
    munmap(start, length);
    mapped_bytes -= length;
  };
  return at::from_blob(data, {static_cast<int64_t>(length)}, unmap, at::TensorOptions().dtype(at::kByte));
}

}  // namespace

void init_storage(Napi::Env env, Napi::Object exports) {
  define(env, exports, "dtype", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return Napi::String::New(info.Env(), dtype_name(tensor_at(info, 0).scalar_type()));
  });
  define(env, exports, "device", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const c10::Device device = tensor_at(info, 0).device();
    return Napi::String::New(info.Env(), device.is_cpu() ? "cpu" : device.str());
  });
  define(env, exports, "byteSize", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(tensor_at(info, 0).nbytes()));
  });
  define(env, exports, "sizes", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const at::Tensor tensor = tensor_at(info, 0);
    Napi::Array sizes = Napi::Array::New(info.Env(), tensor.dim());
    for (int64_t i = 0; i < tensor.dim(); i++) sizes.Set(static_cast<uint32_t>(i), static_cast<double>(tensor.size(i)));
    return sizes;
  });
  define(env, exports, "readBytes", [](const Napi::CallbackInfo& info) {
    Napi::Uint8Array into = info[2].As<Napi::Uint8Array>();
    const auto [data, length] = window(info, tensor_at(info, 0), into.ByteLength());
    if (length > 0) std::memcpy(into.Data(), data, length);  // an empty tensor may have no address
    check_files(info.Env());
  });
  define(env, exports, "writeBytes", [](const Napi::CallbackInfo& info) {
    const Napi::Uint8Array from = info[2].As<Napi::Uint8Array>();
    const auto [data, length] = window(info, tensor_at(info, 0), from.ByteLength());
    if (length > 0) std::memcpy(data, from.Data(), length);
    check_files(info.Env());
  });
  define(env, exports, "mapFile", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return to_js(info.Env(), map_file(info[0].As<Napi::String>().Utf8Value()));
  });
}

}  // namespace revmoe
