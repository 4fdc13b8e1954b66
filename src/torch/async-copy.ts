// Copies between main memory and a GPU that go on while it computes. A copy begins behind all that was asked before it. Between
// tensors of the CPU it is an ordinary one.
import { native } from "./binding.js";
import type { Tensor } from "./tensor.js";

/**
 * to = from, one of them in pinned main memory. What is copied to the GPU may be read behind `awaitCopies`, and until then not be freed; what
 * is copied from it may be freed at once, and is in main memory when the device was waited for.
 */
export const copyAsync = (to: Tensor, from: Tensor): void => native.copyAsync(to, from);

/** What the GPU is asked from now on waits for the copies so far, to it ("in") or from it ("out"). */
export const awaitCopies = (device: string, direction: "in" | "out"): void =>
  native.awaitCopies(device, direction === "out");
