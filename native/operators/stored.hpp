// A stored weight and the tensors beside it, as arguments of kernels.
#pragma once
#include "kernels/weight.h"
#include "operators/launch.hpp"

namespace revmoe {

/**
 * A weight: its values, what is below them (a correction), the seed of its random bits, and the number of its first
 * element among these.
 */
struct Stored {
  at::Tensor w;
  c10::optional<at::Tensor> correction;
  int64_t seed, first;

  kernels::WeightArgs args() const {
    check_dense(w, w.scalar_type() == at::kFloat ? at::kFloat : at::kBFloat16, w.device());
    kernels::WeightArgs args{w.data_ptr(), nullptr, static_cast<uint64_t>(seed), first};
    if (!correction.has_value()) return args;
    check_dense(*correction, at::kChar, w.device());
    TORCH_CHECK(w.scalar_type() == at::kBFloat16 && correction->numel() == w.numel(),
                "the correction is of another weight");
    args.correction = static_cast<int8_t*>(correction->data_ptr());
    return args;
  }

  /** That of the three kernels which fits how the weight is stored. */
  const kernels::Kernel& among(const kernels::Kernel& plain, const kernels::Kernel& rounded,
                               const kernels::Kernel& corrected) const {
    if (w.scalar_type() == at::kFloat) return plain;
    return correction.has_value() ? corrected : rounded;
  }

  /** The address of a dense tensor on the weight's device with as many elements as the weight, or `elements`. */
  template <class Element>
  Element* beside(const at::Tensor& x, int64_t elements) const {
    check_dense(x, c10::CppTypeToScalarType<Element>(), w.device());
    TORCH_CHECK(x.numel() == elements, "the sizes do not belong together");
    return static_cast<Element*>(x.data_ptr());
  }
  template <class Element = float>
  Element* beside(const at::Tensor& x) const {
    return beside<Element>(x, w.numel());
  }
};

}  // namespace revmoe
