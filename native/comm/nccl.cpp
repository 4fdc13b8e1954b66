// NCCL, by dlopen and without CUDA's headers: rounds of sends and receives between GPUs, begun by all ranks in the same order. A lane is a
// communicator with a stream of its own, on which its rounds go one behind the other. Nothing here waits without a limit: what has failed, or takes
// longer, ends all lanes; the code is RANK_LOST, or NCCL_UNUSABLE where no other rank has a part in it.
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>
#include <deque>
#include <optional>
#include <thread>

#include "comm/nccl_library.hpp"
#include "core/table.hpp"
#include "io/async_copy.hpp"

namespace revmoe {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPause = std::chrono::microseconds(50);

struct Round {
  int number;
  // Alive until the round is over.
  std::vector<at::Tensor> tensors;
  std::optional<c10::Event> event;
  long mark = 0;
};

struct Lane {
  const Nccl* nccl;
  Comm comm = nullptr;
  c10::Device device{c10::kCPU};
  std::optional<c10::Stream> stream;
  std::chrono::seconds limit{0};
  bool met = false;
  int started = 0;
  // Of the round that is being put together.
  std::vector<std::pair<at::Tensor, int>> sends, receives;
  std::deque<Round> rounds;
};

// Left behind by a process that ends in a hurry, as the group is.
std::vector<Lane*> lanes;

void abort_all() {
  for (Lane* lane : lanes)
    if (lane->comm) lane->nccl->abort(std::exchange(lane->comm, nullptr));
}

[[noreturn]] void fail(Napi::Env env, const char* code, const std::string& what) {
  abort_all();
  Napi::Error out = Napi::Error::New(env, what);
  if (code) out.Set("code", Napi::String::New(env, code));
  throw out;
}

// A failed check is a defect of ours.
template <typename Call>
auto guarded(Napi::Env env, Call call) {
  try {
    return call();
  } catch (const c10::Error& failure) {
    fail(env, nullptr, failure.what_without_backtrace());
  } catch (const Unusable& failure) {
    fail(env, "NCCL_UNUSABLE", failure.what());
  } catch (const std::exception& failure) {
    fail(env, "RANK_LOST", failure.what());
  }
}

// Before a lane has met the other ranks, what fails is this machine's, or how it is set up.
void check(const Lane& lane, int result, const char* doing) {
  if (result == kSuccess || result == kInProgress) return;
  std::string what = std::string("NCCL: ") + doing + ": " + lane.nccl->words(result);
  if (const char* const last = lane.nccl->last_error ? lane.nccl->last_error(lane.comm) : nullptr)
    if (*last) what += std::string(" (") + last + ")";
  if (!lane.met && result != kRemoteError) throw Unusable(what);
  throw std::runtime_error(what);
}

// Until `done`; looks meanwhile whether the lane has failed.
template <typename Done>
void wait(const Lane& lane, const char* doing, Done done) {
  const auto end = Clock::now() + lane.limit;
  while (!done()) {
    int state = kSuccess;
    check(lane, lane.nccl->state(lane.comm, &state), doing);
    check(lane, state, doing);
    if (Clock::now() > end)
      throw std::runtime_error("NCCL: " + std::string(doing) + ": nothing came within " +
                               std::to_string(lane.limit.count()) + " s");
    std::this_thread::sleep_for(kPause);
  }
}

// What a call has begun is done: one that may not wait is followed by a state.
void settle(const Lane& lane, int result, const char* doing) {
  check(lane, result, doing);
  int state = result;
  wait(lane, doing, [&] {
    check(lane, lane.nccl->state(lane.comm, &state), doing);
    return state != kInProgress;
  });
  check(lane, state, doing);
}

Lane& lane_at(const Napi::CallbackInfo& info) {
  Lane& lane = *lanes.at(info[0].As<Napi::Number>().Int32Value());
  if (!lane.comm) throw std::runtime_error("NCCL: the lane is closed");
  return lane;
}

void start(Lane& lane) {
  Round round{++lane.started, {}, {}, 0};
  std::optional<c10::DeviceGuard> guard;
  void* stream = nullptr;
  if (lane.stream) {
    guard.emplace(lane.device);
    event_of(computing_stream(lane.device)).block(*lane.stream);
#if REVMOE_TORCH >= 211
    stream = lane.stream->native_handle();
#endif
  }
  check(lane, lane.nccl->group_start(), "beginning a round");
  for (const auto& [tensor, to] : lane.sends)
    check(lane, lane.nccl->send(tensor.data_ptr(), tensor.nbytes(), kBytes, to, lane.comm, stream), "sending");
  for (const auto& [tensor, from] : lane.receives)
    check(lane, lane.nccl->receive(tensor.data_ptr(), tensor.nbytes(), kBytes, from, lane.comm, stream), "receiving");
  settle(lane, lane.nccl->group_end(), "beginning a round");
  for (auto* each : {&lane.sends, &lane.receives}) {
    for (auto& [tensor, other] : *each) round.tensors.push_back(std::move(tensor));
    each->clear();
  }
  if (lane.stream)
    round.event = event_of(*lane.stream);
  else
    round.mark = lane.nccl->mark(lane.comm);
  lane.rounds.push_back(std::move(round));
}

void await(Lane& lane, int number) {
  TORCH_CHECK(number <= lane.started, "a round is waited for before it is begun");
  while (!lane.rounds.empty() && lane.rounds.front().number <= number) {
    const Round& round = lane.rounds.front();
    wait(lane, "waiting for a round",
         [&] { return round.event ? round.event->query() : lane.nccl->reached(lane.comm, round.mark) != 0; });
    lane.rounds.pop_front();
  }
}

void put(Lane& lane, std::vector<std::pair<at::Tensor, int>>& among, const at::Tensor& tensor, int other) {
  TORCH_CHECK(tensor.is_contiguous() && tensor.device() == lane.device, describe(tensor),
              ": what goes over a lane lies whole on its device, ", lane.device.str());
  among.emplace_back(tensor, other);
}

Napi::Value open_lane(const Napi::CallbackInfo& info) {
  const Napi::Object at = info[0].As<Napi::Object>();
  const auto text = [&](const char* name) { return at.Get(name).As<Napi::String>().Utf8Value(); };
  const auto whole = [&](const char* name) { return at.Get(name).As<Napi::Number>().Int32Value(); };
  return guarded(info.Env(), [&] {
    auto lane = std::make_unique<Lane>();
    lane->nccl = &opened(text("library"));
    lane->device = c10::Device(text("device"));
    lane->limit = std::chrono::seconds(whole("seconds"));
    std::optional<c10::DeviceGuard> guard;
    if (!lane->device.is_cpu()) {
      const c10::impl::VirtualGuardImpl streams(lane->device.type());
      if (!lane->device.has_index()) lane->device = streams.getDevice();
      guard.emplace(lane->device);
      TORCH_CHECK(REVMOE_TORCH >= 211, "NCCL: this libtorch does not hand out its streams (2.11 and later do)");
      lane->stream = streams.getStreamFromGlobalPool(lane->device, /*isHighPriority=*/true);
    }
    UniqueId id;
    const auto given = at.Get("id").As<Napi::Uint8Array>();
    TORCH_CHECK(given.ByteLength() == sizeof id, "NCCL: an id of another length");
    std::copy_n(given.Data(), sizeof id, reinterpret_cast<uint8_t*>(id.bytes));
    Config config;
    lanes.push_back(lane.release());
    Lane& made = *lanes.back();
    settle(made, made.nccl->init(&made.comm, whole("world"), id, whole("rank"), &config), "meeting the other ranks");
    made.met = true;
    return Napi::Number::New(info.Env(), static_cast<double>(lanes.size() - 1));
  });
}

}  // namespace

void init_nccl(Napi::Env env, Napi::Object exports) {
  define(env, exports, "ncclFacts", [](const Napi::CallbackInfo& info) -> Napi::Value {
    try {
      const Nccl& nccl = opened(info[0].As<Napi::String>().Utf8Value());
      int version = 0;
      nccl.version(&version);
      Napi::Object facts = Napi::Object::New(info.Env());
      facts.Set("version", version);
      facts.Set("movesMainMemory", nccl.mark != nullptr);
      return facts;
    } catch (const std::runtime_error& failure) {
      throw Napi::Error::New(info.Env(), failure.what());
    }
  });
  define(env, exports, "ncclId", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return guarded(info.Env(), [&] {
      UniqueId id{};
      const Nccl& nccl = opened(info[0].As<Napi::String>().Utf8Value());
      if (const int failed = nccl.unique_id(&id)) throw Unusable(std::string("NCCL: ") + nccl.words(failed));
      auto bytes = Napi::Uint8Array::New(info.Env(), sizeof id);
      std::copy_n(reinterpret_cast<const uint8_t*>(id.bytes), sizeof id, bytes.Data());
      return bytes;
    });
  });
  define(env, exports, "openLane", open_lane);
  define(env, exports, "roundSend", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return guarded(info.Env(), [&] {
      Lane& lane = lane_at(info);
      put(lane, lane.sends, tensor_at(info, 1), info[2].As<Napi::Number>().Int32Value());
      return Napi::Number::New(info.Env(), lane.started + 1);
    });
  });
  define(env, exports, "roundReceive", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return guarded(info.Env(), [&] {
      Lane& lane = lane_at(info);
      put(lane, lane.receives, tensor_at(info, 1), info[2].As<Napi::Number>().Int32Value());
      return Napi::Number::New(info.Env(), lane.started + 1);
    });
  });
  define(env, exports, "startRound", [](const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      Lane& lane = lane_at(info);
      if (!lane.sends.empty() || !lane.receives.empty()) start(lane);
    });
  });
  define(env, exports, "awaitRound", [](const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { await(lane_at(info), info[1].As<Napi::Number>().Int32Value()); });
  });
  define(env, exports, "closeLane", [](const Napi::CallbackInfo& info) {
    Lane& lane = *lanes.at(info[0].As<Napi::Number>().Int32Value());
    // What is not over yet is given up.
    const bool isIdle = lane.rounds.empty();
    if (const Comm comm = std::exchange(lane.comm, nullptr)) (isIdle ? lane.nccl->destroy : lane.nccl->abort)(comm);
    lane.rounds.clear();
    lane.sends.clear();
    lane.receives.clear();
  });
}

}  // namespace revmoe
