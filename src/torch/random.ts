// Random state. Repeatable work seeds the engine from what identifies it (`seedFor`), so a resumed run needs no saved
// state. The generators' full state is for work that draws in sequence.
import { native } from "./binding.js";
import type { Tensor } from "./tensor.js";

/** Seeds every generator of the engine. */
export const setSeed = (seed: number): void => native.setSeed(seed);

/**
 * A well-mixed seed (48 bits; libtorch's CPU generator uses the low 32) from the numbers that identify a piece of work,
 * such as (run seed, step, block).
 */
export function seedFor(...parts: number[]): number {
  let high = 0x9e3779b9;
  let low = 0x85ebca6b;
  for (const part of parts) {
    low = Math.imul(low ^ (part >>> 0), 0xcc9e2d51);
    low ^= low >>> 15;
    high = Math.imul(high ^ low ^ (Math.floor(part / 2 ** 32) >>> 0), 0x1b873593);
    high ^= high >>> 13;
  }
  return (high >>> 0) * 2 ** 16 + ((low >>> 8) & 0xffff);
}

/** The full state of a device's generator, as bytes; the caller owns the tensor. */
export const generatorState = (device = "cpu"): Tensor => native.generatorState(device) as Tensor;

export const setGeneratorState = (state: Tensor, device = "cpu"): void => native.setGeneratorState(device, state);
