// Streams of a device that has some, through libtorch's interface to any device: one that computes, and one for copies
// in each direction.
#pragma once
#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

namespace revmoe {

/** The stream for copies to the device, or with `out` from it. */
c10::Stream copy_stream(c10::Device device, bool out);

c10::Stream computing_stream(c10::Device device);

/** Reached when the work queued on `stream` so far is done. */
c10::Event event_of(const c10::Stream& stream);

/**
 * to = from, one of them in pinned main memory; begins after the work that the device was given so far. Between CPU
 * tensors it is an ordinary copy.
 */
void copy_async(at::Tensor to, const at::Tensor& from);

/** The same for a copy to the device, which waits only for `behind`. */
void copy_in(at::Tensor to, const at::Tensor& from, const c10::Event& behind);

/** Work given to the device from now on waits for the copies so far. */
void await_copies(c10::Device device, bool out);

}  // namespace revmoe
