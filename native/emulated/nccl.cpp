// A stand-in for libnccl.so.2, for tests: it moves main memory between processes of one machine, over sockets. It is as
// strict as NCCL: a communicator runs its groups in order, each as a unit; a send waits until the other rank is at the
// matching receive; there are no tags, so ranks whose groups have different orders wait for ever. A size that differs
// from the sent one, or a rank that is gone, is an error. In addition to NCCL's functions it has two that replace a
// stream's events: revmoe_emulated_mark and revmoe_emulated_reached.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kSuccess = 0, kInternal = 3, kInvalidUsage = 5, kRemote = 6, kInProgress = 7;
constexpr int kTries = 6000;  // of 10 ms, while ranks meet

struct UniqueId {
  char bytes[128];
};

struct Operation {
  bool sends;
  char* data;
  size_t bytes;
  int peer;
};
using Unit = std::vector<Operation>;

bool write_all(int fd, const void* data, size_t bytes) {
  for (auto* at = static_cast<const char*>(data); bytes > 0;) {
    const ssize_t done = send(fd, at, bytes, MSG_NOSIGNAL);
    if (done <= 0) return false;
    at += done;
    bytes -= done;
  }
  return true;
}

bool read_all(int fd, void* data, size_t bytes) {
  return bytes == 0 || recv(fd, data, bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes);
}

sockaddr_un address_of(const UniqueId& id, int rank) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // The first byte stays zero: such a name is not a file, and disappears with its process.
  std::snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "revmoe-nccl-%.32s-%d", id.bytes, rank);
  return address;
}

struct Communicator {
  // By rank: through `out` this rank sends, and hears that the other is ready; through `in` it is the other way around.
  std::vector<int> out, in;
  std::mutex lock;
  std::condition_variable changed;
  std::deque<Unit> queue;
  long asked = 0;
  std::atomic<long> done{0};
  std::atomic<int> failure{kSuccess};
  // The next question finds the call that began last still in progress, which is possible on a GPU, too.
  std::atomic<bool> lingers{true};
  bool ends = false;
  std::thread worker;

  void fail(int why) {
    int none = kSuccess;
    failure.compare_exchange_strong(none, why);
  }

  void do_one(const Operation& each) {
    uint64_t ready = each.bytes;
    if (each.sends) {
      if (!read_all(out[each.peer], &ready, sizeof ready)) return fail(kRemote);
      if (ready != each.bytes) return fail(kInvalidUsage);
      if (!write_all(out[each.peer], each.data, each.bytes)) fail(kRemote);
    } else if (!write_all(in[each.peer], &ready, sizeof ready) || !read_all(in[each.peer], each.data, each.bytes)) {
      fail(kRemote);
    }
  }

  // All at the same time, except those with the same direction and rank.
  void do_unit(const Unit& unit) {
    std::map<std::pair<int, bool>, std::vector<const Operation*>> lines;
    for (const Operation& each : unit) lines[{each.peer, each.sends}].push_back(&each);
    std::vector<std::thread> threads;
    for (const auto& [key, line] : lines)
      threads.emplace_back([this, line = line] {
        for (const Operation* each : line) {
          if (failure != kSuccess) return;
          do_one(*each);
        }
      });
    for (std::thread& thread : threads) thread.join();
  }

  void run() {
    std::unique_lock<std::mutex> hold(lock);
    for (;;) {
      changed.wait(hold, [this] { return ends || !queue.empty(); });
      if (queue.empty()) return;
      const Unit unit = std::move(queue.front());
      queue.pop_front();
      hold.unlock();
      if (failure == kSuccess) do_unit(unit);
      hold.lock();
      // A unit that failed is never reached.
      if (failure == kSuccess) done++;
    }
  }

  bool meet(const UniqueId& id, int rank, int world) {
    out.assign(world, -1);
    in.assign(world, -1);
    const int listening = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un own = address_of(id, rank);
    if (bind(listening, reinterpret_cast<sockaddr*>(&own), sizeof own) != 0 || listen(listening, world) != 0)
      return false;
    int own_ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, own_ends) != 0) return false;
    out[rank] = own_ends[0];
    in[rank] = own_ends[1];
    for (int other = 0; other < world; other++) {
      if (other == rank) continue;
      const sockaddr_un address = address_of(id, other);
      for (int tries = 0; out[other] < 0 && tries < kTries; tries++) {
        const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
          out[other] = fd;
          break;
        }
        close(fd);
        usleep(10'000);
      }
      if (out[other] < 0 || !write_all(out[other], &rank, sizeof rank)) return false;
    }
    for (int i = 0; i < world - 1; i++) {
      int from = 0;
      const int fd = accept(listening, nullptr, nullptr);
      if (fd < 0 || !read_all(fd, &from, sizeof from)) return false;
      in[from] = fd;
    }
    close(listening);
    worker = std::thread([this] { run(); });
    return true;
  }

  // With `aborts`, waiting work is not done any more.
  void close_all(bool aborts) {
    if (aborts) {
      fail(kInternal);
      for (const auto* ends_of : {&out, &in})
        for (const int fd : *ends_of)
          if (fd >= 0) shutdown(fd, SHUT_RDWR);
    }
    {
      const std::lock_guard<std::mutex> hold(lock);
      ends = true;
    }
    changed.notify_all();
    if (worker.joinable()) worker.join();
    for (const auto* ends_of : {&out, &in})
      for (const int fd : *ends_of)
        if (fd >= 0) close(fd);
  }
};

thread_local int depth = 0;
thread_local std::map<Communicator*, Unit> grouped;

int add(Communicator* comm, Operation operation) {
  if (depth > 0) {
    grouped[comm].push_back(operation);
    return kSuccess;
  }
  const std::lock_guard<std::mutex> hold(comm->lock);
  comm->queue.push_back({operation});
  comm->asked++;
  comm->changed.notify_all();
  return kSuccess;
}

}  // namespace

extern "C" {

int ncclGetVersion(int* version) {
  *version = 21800;
  return kSuccess;
}

const char* ncclGetErrorString(int result) {
  return result == kRemote         ? "a rank is gone (stand-in)"
         : result == kInvalidUsage ? "sizes that differ (stand-in)"
                                   : "an error of the stand-in";
}

int ncclGetUniqueId(UniqueId* id) {
  std::memset(id->bytes, 0, sizeof id->bytes);
  std::random_device random;
  std::snprintf(id->bytes, sizeof id->bytes, "%08x%08x%08x", random(), random(), random());
  return kSuccess;
}

int ncclCommInitRankConfig(Communicator** comm, int world, UniqueId id, int rank, void*) {
  auto* made = new Communicator();
  *comm = made;
  return made->meet(id, rank, world) ? kSuccess : kInternal;
}

int ncclGroupStart() {
  depth++;
  return kSuccess;
}

int ncclGroupEnd() {
  if (--depth > 0) return kSuccess;
  for (auto& [comm, unit] : grouped) {
    const std::lock_guard<std::mutex> hold(comm->lock);
    comm->queue.push_back(std::move(unit));
    comm->asked++;
    comm->lingers = true;
    comm->changed.notify_all();
  }
  grouped.clear();
  return kInProgress;
}

int ncclSend(const void* data, size_t bytes, int, int peer, Communicator* comm, void*) {
  return add(comm, {true, const_cast<char*>(static_cast<const char*>(data)), bytes, peer});
}

int ncclRecv(void* data, size_t bytes, int, int peer, Communicator* comm, void*) {
  return add(comm, {false, static_cast<char*>(data), bytes, peer});
}

int ncclCommGetAsyncError(Communicator* comm, int* state) {
  const int failure = comm->failure;
  *state = failure != kSuccess ? failure : comm->lingers.exchange(false) ? kInProgress : kSuccess;
  return kSuccess;
}

int ncclCommAbort(Communicator* comm) {
  comm->close_all(/*aborts=*/true);
  delete comm;
  return kSuccess;
}

int ncclCommDestroy(Communicator* comm) {
  comm->close_all(/*aborts=*/false);
  delete comm;
  return kSuccess;
}

long revmoe_emulated_mark(Communicator* comm) { return comm->asked; }

int revmoe_emulated_reached(Communicator* comm, long mark) { return comm->done >= mark; }
}
