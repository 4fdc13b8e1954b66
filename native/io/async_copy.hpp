// Streams of a device that has some, as libtorch's own interface to any device gives them: one that computes, and one for copies in each direction.
#pragma once
#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

namespace revmoe {

/** The one for copies to the device, or `out` of it. */
c10::Stream copy_stream(c10::Device device, bool out);

c10::Stream computing_stream(c10::Device device);

/** What `stream` was asked so far. */
c10::Event event_of(const c10::Stream& stream);

/** to = from, one of them in pinned main memory; begins behind what the device was asked so far to compute. Between tensors of the CPU an ordinary copy. */
void copy_async(at::Tensor to, const at::Tensor& from);

/** The same to the device, begun behind `behind` alone. */
void copy_in(at::Tensor to, const at::Tensor& from, const c10::Event& behind);

/** What the device is asked from now on waits for the copies so far. */
void await_copies(c10::Device device, bool out);

}  // namespace revmoe
