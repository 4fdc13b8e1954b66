// Mapped files that become shorter, or cannot be read, while they are used. The system's answer to touching such a page
// is SIGBUS, which ends the process. For a page of our mappings, this handler puts zeros in its place and marks the
// mapping. The operator ends, and `check_files` throws before anybody trusts its result. Any other SIGBUS goes to the
// handler before ours. The handler only reads a list that never shrinks, so it is safe inside a signal, on any thread.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "core/table.hpp"
#include "cuda/emulator.hpp"

namespace revmoe {

std::atomic<int> cut_files{0};

namespace {

// An entry is in use while `start` is set. One without `start` that is cut stays until its error was thrown.
struct Watched {
  std::atomic<char*> start{nullptr};
  std::atomic<size_t> length{0};
  std::atomic<bool> cut{false};
  std::atomic<bool> told{false};
  std::string path;
  Watched* next = nullptr;

  void forget() {
    told = false;
    if (cut.exchange(false)) cut_files--;
  }
};

std::atomic<Watched*> watched{nullptr};
struct sigaction before;
size_t page_size = 0;

bool replace_by_zeros(char* address) {
  for (Watched* each = watched; each; each = each->next) {
    char* const start = each->start;
    char* const end = start + each->length;
    if (!start || address < start || address >= end) continue;
    char* const page = address - reinterpret_cast<uintptr_t>(address) % page_size;
    // Replaces all that follows: in a cut file it is gone too, one fault is enough, and nothing of this mapping will be
    // used.
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    if (mmap(page, end - page, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) return false;
    if (!each->cut.exchange(true)) cut_files++;
    return true;
  }
  return false;
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  const bool sent = info->si_code <= 0;  // sent by a process: there is no address
  if (!sent && replace_by_zeros(static_cast<char*>(info->si_addr))) {
    errno = saved;
    return;
  }
  if (before.sa_flags & SA_SIGINFO) return before.sa_sigaction(signal, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(signal);
  // Lets the fault happen again without our handler.
  sigaction(SIGBUS, &before, nullptr);
  if (sent) raise(signal);
}

void install_handler() {
  page_size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  struct sigaction ours {};
  ours.sa_sigaction = on_bus_error;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&ours.sa_mask);
  sigaction(SIGBUS, &ours, &before);
}

}  // namespace

void watch_mapping(void* start, size_t length, const std::string& path) {
  static const bool installed = (install_handler(), true);
  static_cast<void>(installed);
  Watched* entry = watched;
  while (entry && (entry->start || entry->cut)) entry = entry->next;
  if (!entry) {
    entry = new Watched();
    entry->next = watched;
    watched = entry;
  }
  entry->path = path;
  entry->length = length;
  entry->start = static_cast<char*>(start);
  emulator_made(start, length);
}

void forget_mapping(void* start) {
  emulator_freed(start);
  for (Watched* each = watched; each; each = each->next) {
    if (each->start != start) continue;
    each->start = nullptr;
    if (each->told) each->forget();
    return;
  }
}

void throw_cut_file(Napi::Env env) {
  for (Watched* each = watched; each; each = each->next) {
    if (!each->cut) continue;
    Napi::Error error =
        Napi::Error::New(env, each->path + ": was cut short, or could not be read, while it was mapped");
    error.Set("code", Napi::String::New(env, "FILE_CUT_SHORT"));
    error.Set("path", Napi::String::New(env, each->path));
    // Thrown each time while the mapping lives, and once after it is gone.
    each->told = true;
    if (!each->start) each->forget();
    throw error;
  }
}

}  // namespace revmoe
