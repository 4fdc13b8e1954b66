// Checks every memory access of an emulated kernel. The compiler's -fsanitize=thread,bounds reports accesses to
// functions with fixed names: those of its own library, or those of this file. For each byte, this notes who wrote and
// who read it within a launch, and when. Faults are
//   a race: two threads, one of which writes, with no barrier between them; between items there is none, since each
//   may be another block's;
//   an address outside of every tensor, or one that is not a multiple of the value's size;
//   an index outside of an array; shared memory that is read before the item wrote it.
#include <dlfcn.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "emulated/cuda.hpp"

extern "C" {
// Defined by the linker: where this object begins and ends, and what a block shares.
extern char __ehdr_start __attribute__((visibility("hidden")));
extern char _end __attribute__((visibility("hidden")));
extern char __start_block_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_block_shared[] __attribute__((weak, visibility("hidden")));
}

namespace revmoe::emulated {
namespace {

constexpr uintptr_t kPage = 4096;
constexpr size_t kMostPages = 2048;  // of notes that are kept between launches, 80 KiB each
constexpr uint16_t kSeveral = 0xffff;
constexpr uint32_t kSeveralItems = 0xffffffff;

/** Notes on one byte. Times count the barriers and the beginnings of blocks. */
struct Notes {
  uint32_t written, read;
  uint32_t written_by, read_by;  // items
  uint16_t writer, reader;       // threads
};

struct Page {
  Notes notes[kPage] = {};
};

bool in_launch = false;
uint32_t now = 1, launch_began, block_began;
uint32_t items[kThreads];
std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
uintptr_t last_number = 0;
Page* last_page = nullptr;

std::mutex tensor_lock;
std::map<uintptr_t, uintptr_t> tensors;  // first byte, and the one after the last
std::pair<uintptr_t, uintptr_t> last_tensor;

Page& page_of(uintptr_t number) {
  if (last_page != nullptr && number == last_number) return *last_page;
  std::unique_ptr<Page>& page = pages[number];
  if (page == nullptr) page = std::make_unique<Page>();
  last_number = number;
  return *(last_page = page.get());
}

bool in_tensor(uintptr_t at, size_t bytes) {
  if (at >= last_tensor.first && at + bytes <= last_tensor.second) return true;
  const std::lock_guard<std::mutex> hold(tensor_lock);
  auto found = tensors.upper_bound(at);
  if (found == tensors.begin()) return false;
  last_tensor = *--found;
  return at + bytes <= last_tensor.second;
}

/** The place in the source: a command that prints it. */
std::string place(const void* code) {
  Dl_info library;
  char offset[32];
  if (dladdr(code, &library) == 0) return "";
  // The call is before the return address.
  snprintf(offset, sizeof offset, " 0x%zx",
           reinterpret_cast<uintptr_t>(code) - 1 - reinterpret_cast<uintptr_t>(library.dli_fbase));
  return std::string(" (addr2line -Cifse ") + library.dli_fname + offset + ")";
}

void say(const char* what, bool writes, bool shared, const void* code) {
  const std::string words = "thread " + std::to_string(threadIdx.x) + (writes ? " writes " : " reads ") +
                            (shared ? "shared memory" : "memory") + what + place(code);
  fault(words.c_str());
}

/** Notes an access; returns what is wrong with it, or null. */
const char* note(Notes& notes, bool writes, bool shared) {
  const auto own = static_cast<uint16_t>(threadIdx.x);
  const uint32_t item = items[own];
  const bool written = notes.written >= launch_began, read = notes.read >= launch_began;
  const char* wrong = nullptr;
  if (shared && !writes && (notes.written < block_began || notes.written_by != item))
    wrong = " that its item has not written";
  if (!shared && written && notes.written_by != item) wrong = " that another item wrote";
  if (notes.written == now && notes.writer != own) wrong = " that another thread wrote, with no barrier between";
  if (writes) {
    if (!shared && read && notes.read_by != item) wrong = " that another item reads";
    if (notes.read == now && notes.reader != own) wrong = " that another thread reads, with no barrier between";
    notes.written = now;
    notes.written_by = item;
    notes.writer = own;
  } else {
    notes.read_by = read && notes.read_by != item ? kSeveralItems : item;
    notes.reader = notes.read == now && notes.reader != own ? kSeveral : own;
    notes.read = now;
  }
  return wrong;
}

void access(const void* address, size_t bytes, bool writes, bool aligned, const void* code) {
  if (!in_launch) return;
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto within = [at](const void* first, const void* end) {
    return at >= reinterpret_cast<uintptr_t>(first) && at < reinterpret_cast<uintptr_t>(end);
  };
  const bool shared = within(__start_block_shared, __stop_block_shared);
  if (!shared && within(&__ehdr_start, &_end)) return;  // a thread's own stack and index, arguments, constants
  if (aligned && at % bytes != 0)
    return say(" at an address that is no multiple of the value's size", writes, shared, code);
  if (!shared && !in_tensor(at, bytes)) return say(" outside of every tensor", writes, false, code);
  for (uintptr_t byte = at; byte < at + bytes; byte++) {
    const char* const wrong = note(page_of(byte / kPage).notes[byte % kPage], writes, shared);
    if (wrong != nullptr) return say(wrong, writes, shared, code);
  }
}

}  // namespace

void launch_begins() {
  if (pages.size() > kMostPages) pages.clear();
  last_page = nullptr;
  last_tensor = {};
  launch_began = ++now;
  in_launch = true;
}

void item_begins(int64_t item) { items[threadIdx.x] = static_cast<uint32_t>(item); }

void block_begins() { block_began = ++now; }

void barrier_passed() { ++now; }

void launch_ends() { in_launch = false; }

}  // namespace revmoe::emulated

using revmoe::emulated::access;

extern "C" {

/** Called by the addon's allocator. */
void revmoe_emulated_made(const void* data, size_t bytes) {
  const std::lock_guard<std::mutex> hold(revmoe::emulated::tensor_lock);
  const auto first = reinterpret_cast<uintptr_t>(data);
  revmoe::emulated::tensors[first] = first + bytes;
}

void revmoe_emulated_freed(const void* data) {
  const std::lock_guard<std::mutex> hold(revmoe::emulated::tensor_lock);
  revmoe::emulated::tensors.erase(reinterpret_cast<uintptr_t>(data));
}

// The compiler's names: those of the runtime libraries of gcc and clang.
#define REVMOE_ACCESS(bytes)                                                                                    \
  void __tsan_read##bytes(void* at) { access(at, bytes, false, true, __builtin_return_address(0)); }            \
  void __tsan_write##bytes(void* at) { access(at, bytes, true, true, __builtin_return_address(0)); }            \
  void __tsan_unaligned_read##bytes(void* at) { access(at, bytes, false, false, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##bytes(void* at) { access(at, bytes, true, false, __builtin_return_address(0)); }
REVMOE_ACCESS(1)
REVMOE_ACCESS(2)
REVMOE_ACCESS(4)
REVMOE_ACCESS(8)
REVMOE_ACCESS(16)
void __tsan_read_range(void* at, size_t bytes) { access(at, bytes, false, false, __builtin_return_address(0)); }
void __tsan_write_range(void* at, size_t bytes) { access(at, bytes, true, false, __builtin_return_address(0)); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

struct SourceLocation {
  const char* file;
  uint32_t line, column;
};
void __ubsan_handle_out_of_bounds(SourceLocation* where, void* index) {
  const std::string words = "index " + std::to_string(reinterpret_cast<intptr_t>(index)) + " is outside of an array (" +
                            where->file + ":" + std::to_string(where->line) + ")";
  revmoe::emulated::fault(words.c_str());
}
}
