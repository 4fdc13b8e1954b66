// Launches kernels, and chooses which of its three forms a kernel has on this CPU.
#include "operators/launch.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>

#include <cstdlib>
#include <cstring>

#include "cuda/cuda.hpp"
#include "cuda/emulator.hpp"

namespace revmoe {
namespace {

constexpr const char* kKinds[] = {"plain", "avx2", "avx512"};

// REVMOE_CPU=plain or avx2 uses less than the CPU has, for comparison.
size_t kind_of_cpu() {
  size_t kind = 0;
#ifdef __x86_64__
  __builtin_cpu_init();
  kind = __builtin_cpu_supports("x86-64-v4") ? 2 : static_cast<size_t>(__builtin_cpu_supports("x86-64-v3") != 0);
#endif
  const char* const wanted = std::getenv("REVMOE_CPU");
  for (size_t less = 0; wanted != nullptr && less < kind; less++) {
    if (std::strcmp(wanted, kKinds[less]) == 0) return less;
  }
  return kind;
}

}  // namespace

const char* kernels_of_cpu() { return emulates() ? "emulated" : kKinds[kind_of_cpu()]; }

void check_dense(const at::Tensor& tensor, at::ScalarType type, c10::Device device) {
  TORCH_CHECK(tensor.device() == device && tensor.is_contiguous() && tensor.scalar_type() == type,
              "expected a dense tensor of ", type, " on ", device, ", not ", tensor.scalar_type(), " on ",
              tensor.device());
}

void share_out(int64_t items, const std::function<void(int64_t first, int64_t end)>& work) {
  if (items == 1 || at::in_parallel_region() || emulates()) return work(0, items);  // the emulated GPU has one thread
  // at::parallel_for is compiled in its caller, so it would need libtorch's own OpenMP here; TensorIterator was
  // compiled with it. It distributes bytes that nobody reads or writes: one for each item.
  static char first;
  at::Tensor all = at::from_blob(&first, {items}, at::kByte);
  at::TensorIterator::nullary_op(all).for_each(
      [&](char** data, const int64_t*, int64_t count) { work(data[0] - &first, data[0] - &first + count); },
      /*grain_size=*/1);
}

void launch(const kernels::Kernel& kernel, const void* args, size_t bytes, int64_t items, c10::Device device) {
  if (items <= 0) return;
  if (!device.is_cpu()) return launch_on_gpu(kernel.name, args, bytes, items, device);
  if (emulates()) return launch_emulated(kernel.name, args, bytes, items);
  static const size_t kind = kind_of_cpu();
  const kernels::Kernel::OnCpu run = kernel.on_cpu[kind];
  share_out(items, [&](int64_t first, int64_t end) { run(args, first, end); });
}

}  // namespace revmoe
