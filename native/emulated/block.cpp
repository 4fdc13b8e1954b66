// Blocks of fibers, one block after the other. Each fiber runs until it waits or is done; then the next one runs. When
// all have run, fibers continue whose barrier or shuffle all have reached. The order of threads is reversed each time,
// so that a result that depends on it shows.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>

#include "emulated/cuda.hpp"

Index threadIdx, blockIdx, gridDim;

extern "C" {
// Defined by the linker if there is shared memory.
extern char __start_block_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_block_shared[] __attribute__((weak, visibility("hidden")));
}

namespace revmoe::emulated {

namespace {

// Few blocks, so that each does several items, as a GPU's blocks do if there are many items.
constexpr int64_t kMostBlocks = 3;

enum class State { ready, at_barrier, in_shuffle, done };

struct Fiber {
  State state = State::done;
  bool begun = false;
  ucontext_t entry;
  jmp_buf at;
  unsigned lanes;
  uint64_t given, taken;
};

Fiber fibers[kThreads];
char stacks[kThreads][1 << 16];
jmp_buf turns;
Run running;
alignas(64) char arguments[4096];
int64_t item_count;
std::string kernel_name, found;

std::map<std::string, Run>& kernels() {
  static std::map<std::string, Run> all;
  return all;
}

// _longjmp takes a hundredth of the time of swapcontext, which asks the system for the signal mask.
void pause(State state) {
  Fiber& own = fibers[threadIdx.x];
  own.state = state;
  if (_setjmp(own.at) == 0) _longjmp(turns, 1);
}

void live() {
  for (;;) {
    running(arguments, item_count);
    pause(State::done);
  }
}

void resume(int thread) {
  threadIdx.x = static_cast<unsigned>(thread);
  Fiber& next = fibers[thread];
  if (_setjmp(turns) != 0) return;
  if (next.begun) _longjmp(next.at, 1);
  next.begun = true;
  getcontext(&next.entry);
  next.entry.uc_stack.ss_sp = stacks[thread];
  next.entry.uc_stack.ss_size = sizeof stacks[thread];
  next.entry.uc_link = nullptr;
  makecontext(&next.entry, live, 0);
  setcontext(&next.entry);
}

int count(State state, int first = 0, int end = kThreads) {
  return static_cast<int>(
      std::count_if(fibers + first, fibers + end, [=](const Fiber& each) { return each.state == state; }));
}

// If all threads that this one waits for in a shuffle have reached it, lets them continue; returns whether they do.
bool shuffle(int thread) {
  if (fibers[thread].state != State::in_shuffle) return false;
  const unsigned lanes = fibers[thread].lanes;
  Fiber* const warp = fibers + thread / kWarp * kWarp;
  for (int lane = 0; lane < kWarp; lane++) {
    const bool meant = (lanes >> lane & 1) != 0;
    if (meant && (warp[lane].state != State::in_shuffle || warp[lane].lanes != lanes)) return false;
  }
  for (int lane = 0; lane < kWarp; lane++) {
    if ((lanes >> lane & 1) == 0) continue;
    warp[lane].taken = warp[lane].given;
    warp[lane].state = State::ready;
  }
  return true;
}

void run_block() {
  for (Fiber& each : fibers) each.state = State::ready;
  for (int round = 0;; round++) {
    for (int i = 0; i < kThreads; i++) {
      const int thread = round % 2 == 0 ? i : kThreads - 1 - i;
      if (fibers[thread].state == State::ready) resume(thread);
    }
    if (count(State::done) == kThreads) return;
    bool moved = false;
    if (count(State::at_barrier) == kThreads) {
      barrier_passed();
      for (Fiber& each : fibers) each.state = State::ready;
      moved = true;
    }
    for (int thread = 0; thread < kThreads; thread++) moved = shuffle(thread) || moved;
    if (moved) continue;
    const std::string where = "of 256 threads, " + std::to_string(count(State::at_barrier)) + " wait at a barrier, " +
                              std::to_string(count(State::in_shuffle)) + " in a shuffle, " +
                              std::to_string(count(State::done)) +
                              " are done: what a block or a warp does together is in a branch that only some take";
    fault(where.c_str());
    for (Fiber& each : fibers) each.begun = false;
    return;
  }
}

}  // namespace

Listed::Listed(const char* name, Run run) { kernels()[name] = run; }

void fault(const char* what) {
  if (found.empty()) found = kernel_name + ", block " + std::to_string(blockIdx.x) + ": " + what;
}

uint64_t exchanged(uint64_t own, unsigned lanes, int mask) {
  const unsigned lane = threadIdx.x % kWarp, other = lane ^ static_cast<unsigned>(mask);
  if (other >= kWarp || mask == 0 || (lanes >> lane & lanes >> other & 1) == 0)
    fault("a shuffle with a thread that is not meant");
  fibers[threadIdx.x].lanes = lanes;
  fibers[threadIdx.x].given = own;
  pause(State::in_shuffle);
  return fibers[threadIdx.x ^ static_cast<unsigned>(mask % kWarp)].taken;
}

}  // namespace revmoe::emulated

void __syncthreads() { revmoe::emulated::pause(revmoe::emulated::State::at_barrier); }

/** Runs a kernel; returns the fault that a real GPU would have made, or null. The text stays until the next launch. */
extern "C" const char* revmoe_emulated_launch(const char* name, const void* args, size_t bytes, int64_t items) {
  using namespace revmoe::emulated;
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> hold(one_at_a_time);
  const auto kernel = kernels().find(name);
  found.clear();
  kernel_name = name;
  if (kernel == kernels().end())
    return (found = kernel_name + ": not among the emulated kernels; node setup/emulate.mjs builds them anew").c_str();
  running = kernel->second;
  memcpy(arguments, args, bytes);
  item_count = items;
  gridDim.x = static_cast<unsigned>(std::min(items, kMostBlocks));
  launch_begins();
  for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
    std::fill(__start_block_shared, __stop_block_shared, static_cast<char>(0xff));
    block_begins();
    run_block();
  }
  launch_ends();
  return found.empty() ? nullptr : found.c_str();
}
