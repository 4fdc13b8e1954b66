// Copies between main memory and a GPU, with one stream for each direction, so that they run while the GPU computes.
// Needs no CUDA headers: uses libtorch's interface to any device with streams.
#include "io/async_copy.hpp"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <map>

#include "core/table.hpp"

namespace revmoe {
namespace {

// Work queued on `after` from now on waits for the work queued on `before` so far.
void order(const c10::Stream& before, const c10::Stream& after) { event_of(before).block(after); }

}  // namespace

c10::Stream copy_stream(c10::Device device, bool out) {
  static std::map<std::pair<int, bool>, c10::Stream> streams;
  const std::pair<int, bool> key{device.index(), out};
  const auto found = streams.find(key);
  if (found != streams.end()) return found->second;
  const c10::Stream made =
      c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, /*isHighPriority=*/false);
  return streams.emplace(key, made).first->second;
}

c10::Stream computing_stream(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

c10::Event event_of(const c10::Stream& stream) {
  c10::Event event(stream.device_type());
  event.record(stream);
  return event;
}

void copy_async(at::Tensor to, const at::Tensor& from) {
  const bool out = to.device().is_cpu();
  const at::Tensor& there = out ? from : to;
  if (there.device().is_cpu()) {
    to.copy_(from);
    return;
  }
  const c10::Stream copies = copy_stream(there.device(), out);
  order(computing_stream(there.device()), copies);
  const c10::StreamGuard guard(copies);
  to.copy_(from, /*non_blocking=*/true);
  // A reader of a copy to the GPU waits for it first; the source of a copy from the GPU may be freed at once.
  if (out) there.record_stream(copies);
}

void copy_in(at::Tensor to, const at::Tensor& from, const c10::Event& behind) {
  const c10::Stream copies = copy_stream(to.device(), /*out=*/false);
  behind.block(copies);
  const c10::StreamGuard guard(copies);
  to.copy_(from, /*non_blocking=*/true);
}

void await_copies(c10::Device device, bool out) { order(copy_stream(device, out), computing_stream(device)); }

void init_async_copy(Napi::Env env, Napi::Object exports) {
  define(env, exports, "copyAsync", [](const Napi::CallbackInfo& info) {
    copy_async(tensor_at(info, 0), tensor_at(info, 1));
    check_files(info.Env());
  });
  define(env, exports, "awaitCopies", [](const Napi::CallbackInfo& info) {
    const c10::Device named(info[0].As<Napi::String>().Utf8Value());
    if (named.is_cpu()) return;
    await_copies(named.has_index() ? named : c10::impl::VirtualGuardImpl(named.type()).getDevice(),
                 info[1].As<Napi::Boolean>().Value());
  });
}

}  // namespace revmoe
