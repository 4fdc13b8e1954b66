// The update with a factored second moment (native/kernels/factored.h, src/optim/factored.ts): five launches for
// matrices side by side.
#include <torch/library.h>

#include <algorithm>

#include "kernels/factored.h"
#include "operators/stored.hpp"

namespace revmoe {
namespace {

// Elements of the matrices that are updated together. On a CPU few enough that the later passes find gradients in its
// cache. Workspaces have the size that these need.
constexpr int64_t kTogetherOnCpu = int64_t{1} << 20;
constexpr int64_t kTogetherOnGpu = int64_t{1} << 28;

struct Settings {
  double gradient_scale, keep, learning_rate, decay, clip;
  bool relative;
};

kernels::FactoredArgs args_of(const Stored& stored, const at::Tensor& g, const Settings& settings) {
  kernels::FactoredArgs args{};
  args.weight = stored.args();
  args.g = stored.beside(g);
  args.keep = static_cast<float>(settings.keep);
  args.fresh = static_cast<float>(1 - settings.keep);
  args.gradient_scale = static_cast<float>(settings.gradient_scale);
  args.learning_rate = settings.learning_rate;
  args.decay = settings.decay;
  args.clip = settings.clip;
  args.relative = settings.relative;
  return args;
}

// Divides the bytes of one tensor, float64 before float32.
struct Workspace {
  char* next;
  template <class Element>
  Element* take(int64_t count) {
    char* const start = next;
    next += count * static_cast<int64_t>(sizeof(Element));
    return reinterpret_cast<Element*>(start);
  }
};

void factored_(at::Tensor w, const c10::optional<at::Tensor>& correction, int64_t seed, int64_t first, at::Tensor row,
               at::Tensor column, const at::Tensor& g, int64_t rows, int64_t columns, double gradient_scale,
               double keep, double learning_rate, double decay, double clip, bool relative) {
  const Stored stored{w, correction, seed, first};
  kernels::FactoredArgs args = args_of(stored, g, {gradient_scale, keep, learning_rate, decay, clip, relative});
  const c10::Device device = w.device();
  const int64_t elements = rows * columns;
  TORCH_CHECK(elements > 0 && w.numel() % elements == 0, "the weight is no number of matrices of ", rows, " x ",
              columns);
  const int64_t matrices = w.numel() / elements;
  args.row = stored.beside<float>(row, matrices * rows);
  args.column = stored.beside<float>(column, matrices * columns);
  args.rows = rows;
  args.columns = columns;
  args.elements = elements;
  // Depends only on the matrix, so it gets the same bits together with others: a 64th of its rows, in multiples of 8,
  // at most 256.
  args.height = std::min<int64_t>((rows + 511) / 512, 32) * 8;
  args.bands = (rows + args.height - 1) / args.height;
  const int64_t most = (device.is_cpu() ? kTogetherOnCpu : kTogetherOnGpu) / elements;
  const int64_t together = std::min(std::max<int64_t>(1, most), matrices);
  const int64_t bytes = together * (8 * args.bands * columns + 16 * rows + 4 * columns + 12);
  const at::Tensor workspace = at::empty({bytes}, at::TensorOptions(at::kByte).device(device));
  Workspace space{static_cast<char*>(workspace.data_ptr())};
  args.column_sums = space.take<double>(together * args.bands * columns);
  args.squares = space.take<double>(together * rows * 2);
  args.column_factor = space.take<float>(together * columns);
  args.row_mean = space.take<float>(together);
  args.steps = space.take<float>(together * 2);
  for (int64_t done = 0; done < matrices; done += together) {
    const int64_t count = std::min(together, matrices - done);
    args.all_rows = count * rows;
    launch(kernels::factored_bands_of, args, count * args.bands, device);
    launch(kernels::factored_averages_of, args, count * kernels::column_items(columns), device);
    launch(stored.among(kernels::factored_squares_plain, kernels::factored_squares_rounded,
                        kernels::factored_squares_corrected),
           args, kernels::row_items(args.all_rows), device);
    launch(kernels::factored_steps_of, args, count, device);
    launch(stored.among(kernels::factored_update_plain, kernels::factored_update_rounded,
                        kernels::factored_update_corrected),
           args, kernels::row_items(args.all_rows), device);
    args.g += count * elements;
    args.row += count * rows;
    args.column += count * columns;
    args.weight.advance(count * elements, w.element_size());
  }
}

void factored_vector_(at::Tensor w, const c10::optional<at::Tensor>& correction, int64_t seed, int64_t first,
                      at::Tensor variance, const at::Tensor& g, double gradient_scale, double keep,
                      double learning_rate, double clip, bool relative) {
  const Stored stored{w, correction, seed, first};
  kernels::FactoredArgs args = args_of(stored, g, {gradient_scale, keep, learning_rate, 0, clip, relative});
  args.row = stored.beside(variance);
  args.elements = w.numel();
  args.rows = kernels::chunks_of(w.numel());
  const at::Tensor workspace = at::empty({16 * args.rows + 8}, at::TensorOptions(at::kByte).device(w.device()));
  Workspace space{static_cast<char*>(workspace.data_ptr())};
  args.squares = space.take<double>(2 * args.rows);
  args.steps = space.take<float>(2);
  launch(
      stored.among(kernels::vector_squares_plain, kernels::vector_squares_rounded, kernels::vector_squares_corrected),
      args, args.rows, w.device());
  launch(kernels::factored_steps_of, args, 1, w.device());
  launch(stored.among(kernels::vector_update_plain, kernels::vector_update_rounded, kernels::vector_update_corrected),
         args, args.rows, w.device());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(revmoe, library) {
  library.def(
      "factored_(Tensor(a!) w, Tensor(b!)? correction, int seed, int first, Tensor(c!) row, Tensor(d!) column, Tensor "
      "g, int rows, int columns, float gradient_scale, float keep, float learning_rate, float decay, float clip, bool "
      "relative) -> ()",
      &factored_);
  library.def(
      "factored_vector_(Tensor(a!) w, Tensor(b!)? correction, int seed, int first, Tensor(c!) variance, Tensor g, "
      "float gradient_scale, float keep, float learning_rate, float clip, bool relative) -> ()",
      &factored_vector_);
}

}  // namespace revmoe
