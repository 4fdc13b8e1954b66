// Kernels with a fault each, and two without, on the emulated GPU: a line for each with its name and what was said. Their memory is
// a "tensor" of 1024 numbers. Each is written as a kernel might be that is right on a CPU, where a team is one thread.
#include <stdio.h>
#include <stdlib.h>

#include "emulated/cuda.hpp"

namespace revmoe::kernels {
namespace {

struct Args {
  float* x;
  float* elsewhere;
  int* most;
};

// No fault: sums of rows, each into its own place; the largest number of all.
DEVICE void sums(const Team& team, int64_t row, const Args& a) {
  const float sum = team.sum<float>(100, [=](int64_t i) { return a.x[100 * row + i]; });
  team.sync();
  team.once([=] { a.x[100 * row] = sum; });
}
DEVICE void largest(const Team& team, int64_t row, const Args& a) {
  const float most = team.most<float>(100, -1.0f, [=](int64_t i) { return a.x[100 * row + i]; });
  team.once([=] { atomicMax(a.most, static_cast<int>(most)); });
}

// The first thread alone reaches a barrier; a whole warp does not reach a shuffle.
DEVICE void lonely_barrier(const Team& team, int64_t, const Args&) {
  team.once([&] { team.sync(); });
}
DEVICE void half_a_warp(const Team& team, int64_t, const Args& a) {
  if (threadIdx.x < 16) a.x[threadIdx.x] = team.sum<float>(10, [](int64_t i) { return static_cast<float>(i); });
}
// What one thread wrote is read by others without a barrier; an item overwrites what others of the one before still read.
DEVICE void unsynced(const Team& team, int64_t row, const Args& a) {
  team.once([=] { a.x[100 * row] = 1; });
  team.each(100, [=](int64_t i) { a.x[100 * row + i] = a.x[100 * row] + 1; });
}
DEVICE void all_write(const Team& team, int64_t row, const Args& a) {
  team.each(100, [=](int64_t i) { a.x[100 * row + i / 2] = 1; });
}
DEVICE void reused(const Team& team, int64_t row, const Args& a) {
  __shared__ float first;
  team.once([&] { first = a.x[100 * row]; });
  team.sync();
  team.each(100, [=](int64_t i) { a.x[100 * row + i] -= first; });
}
// Items know nothing of each other, those of one block neither.
DEVICE void neighbours(const Team& team, int64_t row, const Args& a) {
  team.each(100, [=](int64_t i) { a.x[100 * row + i] += a.x[100 * row + 100]; });
}
DEVICE void behind(const Team& team, int64_t row, const Args& a) {
  team.once([=] { a.x[row] = row < 3 ? 0 : a.x[row - 3] + 1; });
}
DEVICE void unwritten(const Team& team, int64_t row, const Args& a) {
  __shared__ float rest[4];
  team.once([&] { rest[0] = 1; });
  team.sync();
  team.each(4, [=](int64_t i) { a.x[100 * row + i] = rest[i]; });
}
DEVICE void too_far(const Team& team, int64_t row, const Args& a) {
  team.each(300, [=](int64_t i) { a.x[256 * row + i] = 1; });
}
DEVICE void of_the_host(const Team& team, int64_t row, const Args& a) {
  team.each(1, [=](int64_t) { a.x[row] = a.elsewhere[row]; });
}
DEVICE void misaligned(const Team& team, int64_t row, const Args& a) {
  team.each(1, [=](int64_t) { a.x[row] = static_cast<float>(*reinterpret_cast<const double*>(a.x + 101 + 2 * row)); });
}
DEVICE void past_an_array(const Team& team, int64_t row, const Args& a) {
  float own[4] = {};
  for (int64_t i = 0; i <= row + 1; i++) own[i] += a.x[100 * row + i];
  team.each(1, [&](int64_t) { a.x[100 * row] = own[row]; });
}

}  // namespace

REVMOE_KERNEL(sums, sums, Args)
REVMOE_KERNEL(largest, largest, Args)
REVMOE_KERNEL(lonely_barrier, lonely_barrier, Args)
REVMOE_KERNEL(half_a_warp, half_a_warp, Args)
REVMOE_KERNEL(unsynced, unsynced, Args)
REVMOE_KERNEL(all_write, all_write, Args)
REVMOE_KERNEL(reused, reused, Args)
REVMOE_KERNEL(neighbours, neighbours, Args)
REVMOE_KERNEL(behind, behind, Args)
REVMOE_KERNEL(unwritten, unwritten, Args)
REVMOE_KERNEL(too_far, too_far, Args)
REVMOE_KERNEL(of_the_host, of_the_host, Args)
REVMOE_KERNEL(misaligned, misaligned, Args)
REVMOE_KERNEL(past_an_array, past_an_array, Args)

}  // namespace revmoe::kernels

extern "C" const char* revmoe_emulated_launch(const char* name, const void* args, size_t bytes, int64_t items);
extern "C" void revmoe_emulated_made(const void* data, size_t bytes);

int main() {
  constexpr int kNumbers = 1024;
  auto* const x = static_cast<float*>(malloc(kNumbers * sizeof(float)));
  auto* const host = static_cast<float*>(malloc(kNumbers * sizeof(float)));
  auto* const most = static_cast<int*>(calloc(1, sizeof(int)));
  revmoe_emulated_made(x, kNumbers * sizeof(float));
  revmoe_emulated_made(most, sizeof(int));
  const revmoe::kernels::Args args{x, host, most};
  const char* const names[] = {"sums",          "lonely_barrier", "half_a_warp", "unsynced",
                               "all_write",     "reused",         "neighbours",  "behind",
                               "unwritten",     "too_far",        "of_the_host", "misaligned",
                               "past_an_array", "sums",           "largest",     "no_such_kernel"};
  for (const char* const name : names) {
    for (int i = 0; i < kNumbers; i++) x[i] = static_cast<float>(i % 100);
    const char* const said = revmoe_emulated_launch(name, &args, sizeof args, 4);
    if (said == nullptr) {
      printf("%s: right, %g %g, %d\n", name, x[0], x[300], *most);
    } else {
      printf("%s\n", said);
    }
  }
}
