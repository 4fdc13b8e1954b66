// Files mapped for writing, whose pages come and go while a step computes. A mapping is a uint8 tensor: what is written
// to it reaches the file. JavaScript owns the file's descriptor. Two threads move pages: one reads ahead, the other
// writes back and drops pages, each in the order of requests; JavaScript only waits for them. A job holds its mapping
// until it is done.
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "core/table.hpp"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace revmoe {

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kPiece = size_t{4} << 20;
constexpr size_t kAhead = size_t{64} << 20;

at::Tensor map_shared(int file, size_t length, bool allocate, const std::string& path) {
  // A file whose place on the disk is reserved cannot meet a full disk later, when only a signal could report it.
  if (allocate) {
    const int refused = posix_fallocate(file, 0, static_cast<off_t>(length));
    if (refused) throw std::runtime_error(std::string("no room on the disk: ") + std::strerror(refused));
  }
  void* data = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (data == MAP_FAILED) throw std::runtime_error(std::string("cannot be mapped: ") + std::strerror(errno));
  mapped_bytes += length;
  watch_mapping(data, length, path);
  const auto unmap = [length](void* start) {
    forget_mapping(start);
    munmap(start, length);
    mapped_bytes -= length;
  };
  return at::from_blob(data, {static_cast<int64_t>(length)}, unmap, at::TensorOptions().dtype(at::kByte));
}

void read_pages(char* start, size_t length) {
  size_t asked = 0;
  for (size_t done = 0; done < length; done += kPiece) {
    for (; asked < std::min(length, done + kAhead); asked += kPiece) {
      madvise(start + asked, std::min(kPiece, length - asked), MADV_WILLNEED);
    }
    char* piece = start + done;
    const size_t bytes = std::min(kPiece, length - done);
    if (madvise(piece, bytes, MADV_POPULATE_READ) == 0) continue;
    // Before Linux 5.14: touches a byte of every page.
    for (size_t at = 0; at < bytes; at += kPage) static_cast<void>(*static_cast<volatile char*>(piece + at));
  }
}

// Lives until the process ends, because a thread that still works then needs its queue.
class Worker {
 public:
  Worker() {
    std::thread([this] { work(); }).detach();
  }

  double add(std::function<void()> job) {
    const std::lock_guard<std::mutex> guard(lock_);
    jobs_.push_back(std::move(job));
    changed_.notify_all();
    return static_cast<double>(++added_);
  }

  void wait(double ticket) {
    std::unique_lock<std::mutex> guard(lock_);
    changed_.wait(guard, [&] { return finished_ >= ticket; });
  }

 private:
  void work() {
    std::unique_lock<std::mutex> guard(lock_);
    for (;;) {
      changed_.wait(guard, [&] { return !jobs_.empty(); });
      std::function<void()> job = std::move(jobs_.front());
      jobs_.pop_front();
      guard.unlock();
      job();
      job = nullptr;
      guard.lock();
      finished_++;
      changed_.notify_all();
    }
  }

  std::mutex lock_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  uint64_t added_ = 0;
  uint64_t finished_ = 0;
};

Worker& worker(bool reader) {
  static Worker* const reading = new Worker();
  static Worker* const writing = new Worker();
  return reader ? *reading : *writing;
}

}  // namespace

void init_mapping(Napi::Env env, Napi::Object exports) {
  define(env, exports, "mapShared", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const int file = info[0].As<Napi::Number>().Int32Value();
    const auto length = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    return to_js(info.Env(),
                 map_shared(file, length, info[2].ToBoolean().Value(), info[3].As<Napi::String>().Utf8Value()));
  });
  define(env, exports, "checkFiles", [](const Napi::CallbackInfo& info) { check_files(info.Env()); });
  define(env, exports, "readAhead", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const at::Tensor mapping = tensor_at(info, 0);
    return Napi::Number::New(info.Env(), worker(true).add([mapping] {
      read_pages(static_cast<char*>(mapping.data_ptr()), mapping.nbytes());
    }));
  });
  define(env, exports, "writeBack", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const int file = info[0].As<Napi::Number>().Int32Value();
    return Napi::Number::New(info.Env(), worker(false).add([file] {
      sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    }));
  });
  define(env, exports, "dropPages", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const at::Tensor mapping = tensor_at(info, 0);
    const int file = info[1].As<Napi::Number>().Int32Value();
    return Napi::Number::New(info.Env(), worker(false).add([mapping, file] {
      // posix_fadvise keeps pages that are mapped, and pages not yet written; so the mapping lets go of them first.
      madvise(mapping.data_ptr(), mapping.nbytes(), MADV_DONTNEED);
      posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    }));
  });
  define(env, exports, "waitForPages", [](const Napi::CallbackInfo& info) {
    worker(info[0].ToBoolean().Value()).wait(info[1].As<Napi::Number>().DoubleValue());
  });
}

}  // namespace revmoe
