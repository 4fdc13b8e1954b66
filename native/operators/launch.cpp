// Launching, and which of its three forms a kernel has on this CPU.
#include "operators/launch.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "cuda/cuda.hpp"

namespace revmoe {
namespace {

// REVMOE_CPU=plain or avx2 takes less than the CPU has, to compare.
size_t kind_of_cpu() {
#ifdef __x86_64__
  const char* const wanted = std::getenv("REVMOE_CPU");
  const size_t most = wanted == nullptr || std::strcmp(wanted, "avx512") == 0 ? 2 : std::strcmp(wanted, "avx2") == 0;
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return most;
  if (__builtin_cpu_supports("x86-64-v3")) return std::min<size_t>(most, 1);
#endif
  return 0;
}

}  // namespace

void check_dense(const at::Tensor& tensor, at::ScalarType type, c10::Device device) {
  TORCH_CHECK(tensor.device() == device && tensor.is_contiguous() && tensor.scalar_type() == type,
              "expected a dense tensor of ", type, " on ", device, ", not ", tensor.scalar_type(), " on ",
              tensor.device());
}

void share_out(int64_t items, const std::function<void(int64_t first, int64_t end)>& work) {
  if (items == 1 || at::in_parallel_region()) return work(0, items);
  // at::parallel_for is compiled where it is called, so it would need libtorch's own OpenMP here; TensorIterator was compiled with it. It shares
  // out bytes that nobody touches: one for each item.
  static char first;
  at::Tensor all = at::from_blob(&first, {items}, at::kByte);
  at::TensorIterator::nullary_op(all).for_each(
      [&](char** data, const int64_t*, int64_t count) { work(data[0] - &first, data[0] - &first + count); },
      /*grain_size=*/1);
}

void launch(const kernels::Kernel& kernel, const void* args, size_t bytes, int64_t items, c10::Device device) {
  if (items <= 0) return;
  if (!device.is_cpu()) return launch_on_gpu(kernel.name, args, bytes, items, device);
  static const size_t kind = kind_of_cpu();
  const kernels::Kernel::OnCpu run = kernel.on_cpu[kind];
  share_out(items, [&](int64_t first, int64_t end) { run(args, first, end); });
}

}  // namespace revmoe
