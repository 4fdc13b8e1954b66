// Copies between main memory and a GPU that run while the GPU computes. A copy begins after all work that was queued
// before it. Between CPU tensors it is an ordinary copy.
import { native } from "./binding.js";
import type { Tensor } from "./tensor.js";

/**
 * to = from, one of them in pinned main memory. A copy on the GPU may be read after `awaitCopies`, and must not be
 * freed before. The source of a copy from the GPU may be freed at once; that copy is in main memory when the device was
 * waited for.
 */
export const copyAsync = (to: Tensor, from: Tensor): void => native.copyAsync(to, from);

/** Work queued on the GPU from now on waits for the copies so far, to it ("in") or from it ("out"). */
export const awaitCopies = (device: string, direction: "in" | "out"): void =>
  native.awaitCopies(device, direction === "out");
