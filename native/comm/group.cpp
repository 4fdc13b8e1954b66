// Several processes as one group: a store where they meet, and Gloo between them, as libtorch's c10d has them. Calls wait, but for those
// that start something and return a ticket to wait for. A call that fails has the code RANK_LOST: then the group is of no more use.
#if __has_include(<torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>)
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <netdb.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <map>
#include <thread>

#include "comm/messages.hpp"
#include "core/table.hpp"

namespace revmoe {
namespace {

struct Group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  std::unique_ptr<Messages> messages;
};

// Left behind by a process that ends in a hurry: a destructor would wait for what never comes.
Group* group = nullptr;

[[noreturn]] void lost(Napi::Env env, const std::string& what) {
  Napi::Error out = Napi::Error::New(env, what);
  out.Set("code", Napi::String::New(env, "RANK_LOST"));
  throw out;
}

template <typename Call>
auto guarded(Napi::Env env, Call call) {
  try {
    if (!group) throw std::runtime_error("no group is open");
    return call(*group);
  } catch (const c10::Error& failure) {
    lost(env, failure.what_without_backtrace());
  } catch (const std::exception& failure) {
    lost(env, failure.what());
  }
}

int number(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::Number>().Int32Value(); }

std::vector<int> numbers(const Napi::CallbackInfo& info, size_t index) {
  const Napi::Array given = info[index].As<Napi::Array>();
  std::vector<int> all;
  for (uint32_t i = 0; i < given.Length(); i++) all.push_back(given.Get(i).As<Napi::Number>().Int32Value());
  return all;
}

// This machine's address on the way to `host`, port and all: what the name of a machine leads to is often its loopback.
std::string address_towards(const std::string& host, const std::string& port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (const int failed = getaddrinfo(host.c_str(), port.c_str(), &hints, &found))
    throw std::runtime_error(host + ": " + gai_strerror(failed));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(found, freeaddrinfo);
  for (const addrinfo* each = found; each; each = each->ai_next) {
    const int fd = socket(each->ai_family, each->ai_socktype, each->ai_protocol);
    sockaddr_storage own{};
    socklen_t length = sizeof own;
    auto* address = reinterpret_cast<sockaddr*>(&own);
    char text[NI_MAXHOST];
    // Of a datagram socket, this sends nothing.
    const bool known = fd >= 0 && connect(fd, each->ai_addr, each->ai_addrlen) == 0 &&
                       getsockname(fd, address, &length) == 0 &&
                       getnameinfo(address, length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0;
    if (fd >= 0) close(fd);
    if (known) return text;
  }
  throw std::runtime_error(host + ": no way leads there");
}

// The first words with the store are what another version of libtorch does not answer, and nothing limits their time: a thread
// may hang in them.
c10::intrusive_ptr<c10d::Store> meet(std::string host, c10d::TCPStoreOptions options, std::string prefix,
                                     std::string hello) {
  std::promise<c10::intrusive_ptr<c10d::Store>> promise;
  auto met = promise.get_future();
  std::thread([=, promise = std::move(promise)]() mutable {
    try {
      auto store = c10::make_intrusive<c10d::PrefixStore>(prefix, c10::make_intrusive<c10d::TCPStore>(host, options));
      store->set(hello, std::vector<uint8_t>{1});
      promise.set_value(store);
    } catch (...) {
      promise.set_exception(std::current_exception());
    }
  }).detach();
  if (met.wait_for(options.timeout + std::chrono::seconds(1)) != std::future_status::ready)
    throw std::runtime_error("the store does not answer; it may be of another version of libtorch");
  return met.get();
}

void open_group(const Napi::CallbackInfo& info) {
  const Napi::Object at = info[0].As<Napi::Object>();
  const auto text = [&](const char* name) { return at.Get(name).As<Napi::String>().Utf8Value(); };
  const auto whole = [&](const char* name) { return at.Get(name).As<Napi::Number>().Int32Value(); };
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(whole("port"));
  options.isServer = at.Get("serves").As<Napi::Boolean>().Value();
  options.waitWorkers = false;
  options.timeout = std::chrono::seconds(whole("seconds"));
  auto made = std::make_unique<Group>();
  try {
    const std::string rank = std::to_string(whole("rank"));
    made->store = meet(text("host"), options, text("prefix"), "here/" + rank);
    const std::string version = TORCH_VERSION;
    made->store->set("version/" + rank, std::vector<uint8_t>(version.begin(), version.end()));
    const auto others = made->store->get("version/0");
    const std::string first(others.begin(), others.end());
    if (first != version) throw std::runtime_error("rank 0 has libtorch " + first + ", and this one " + version);
    auto limits = c10d::ProcessGroupGloo::Options::create(options.timeout);
    const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
    limits->devices = {interface ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                                 : c10d::ProcessGroupGloo::createDeviceForHostname(
                                       address_towards(text("host"), std::to_string(options.port)))};
    limits->threads = 2;
    made->gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(made->store, whole("rank"), whole("world"), limits);
    const Napi::Value copies = at.Get("copiesAll");
    made->messages = std::make_unique<Messages>(made->gloo, copies.IsBoolean() && copies.ToBoolean().Value());
  } catch (const c10::Error& failure) {
    lost(info.Env(), failure.what_without_backtrace());
  } catch (const std::exception& failure) {
    lost(info.Env(), failure.what());
  }
  group = made.release();
}

// From every rank, in their order, `count` elements each. Not in tensors' memory, which a thread of Gloo would hold a moment longer, and the ledger count.
template <typename T>
std::vector<T> gather(c10d::ProcessGroupGloo& gloo, std::vector<T> own) {
  const size_t count = own.size();
  std::vector<T> all(count * gloo.getSize());
  const auto seen = [&](T* start) {
    return at::from_blob(start, {static_cast<int64_t>(count * sizeof(T))}, at::kByte);
  };
  std::vector<std::vector<at::Tensor>> into(1);
  for (int rank = 0; rank < gloo.getSize(); rank++) into[0].push_back(seen(all.data() + rank * count));
  std::vector<at::Tensor> from{seen(own.data())};
  gloo.allgather(into, from)->wait();
  return all;
}

Napi::Value gather_bytes(const Napi::CallbackInfo& info) {
  const auto own = info[0].As<Napi::Uint8Array>();
  return guarded(info.Env(), [&](Group& open) {
    c10d::ProcessGroupGloo& gloo = *open.gloo;
    const auto lengths = gather<int64_t>(gloo, {static_cast<int64_t>(own.ByteLength())});
    const int64_t most = std::max<int64_t>(1, *std::max_element(lengths.begin(), lengths.end()));
    std::vector<uint8_t> padded(own.Data(), own.Data() + own.ByteLength());
    padded.resize(most);
    const auto all = gather(gloo, std::move(padded));
    Napi::Array out = Napi::Array::New(info.Env(), lengths.size());
    for (size_t rank = 0; rank < lengths.size(); rank++) {
      auto bytes = Napi::Uint8Array::New(info.Env(), lengths[rank]);
      std::copy_n(all.begin() + rank * most, lengths[rank], bytes.Data());
      out.Set(static_cast<uint32_t>(rank), bytes);
    }
    return out;
  });
}

}  // namespace

void init_comm(Napi::Env env, Napi::Object exports) {
  define(env, exports, "hasGroups",
         [](const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), true); });
  define(env, exports, "openGroup", open_group);
  define(env, exports, "gatherBytes", gather_bytes);
  define(env, exports, "sum", [](const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&](Group& open) {
      const at::Tensor tensor = tensor_at(info, 0);
      std::vector<at::Tensor> tensors{at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.options())};
      return open.gloo->allreduce(tensors)->wait();
    });
  });
  define(env, exports, "broadcast", [](const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&](Group& open) {
      std::vector<at::Tensor> bytes{bytes_of(tensor_at(info, 0))};
      c10d::BroadcastOptions options;
      options.rootRank = number(info, 1);
      return open.gloo->broadcast(bytes, options)->wait();
    });
  });
  define(env, exports, "startSend", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return guarded(info.Env(), [&](Group& open) {
      const int ticket = open.messages->send(tensor_at(info, 0), numbers(info, 1), number(info, 2));
      return Napi::Number::New(info.Env(), ticket);
    });
  });
  define(env, exports, "startReceive", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return guarded(info.Env(), [&](Group& open) {
      const int ticket = open.messages->receive(tensor_at(info, 0), number(info, 1), number(info, 2));
      return Napi::Number::New(info.Env(), ticket);
    });
  });
  define(env, exports, "awaitTicket", [](const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&](Group& open) { open.messages->await(number(info, 0)); });
  });
  define(env, exports, "dropTicket", [](const Napi::CallbackInfo& info) {
    if (group) group->messages->drop(number(info, 0));
  });
  define(env, exports, "closeGroup", [](const Napi::CallbackInfo&) {
    delete group;
    group = nullptr;
  });
}

}  // namespace revmoe
#else
#include "core/table.hpp"

namespace revmoe {
void init_comm(Napi::Env env, Napi::Object exports) {
  define(env, exports, "hasGroups",
         [](const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), false); });
}
}  // namespace revmoe
#endif
