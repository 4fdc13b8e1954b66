// Loops over pieces of work that all need the same memory: tiles of tokens, matrices side by side, documents of one
// length. An engine that computes runs every round. An engine that counts runs a few, and one of them stands for all
// that are like it (shadow/rounds.ts), so counting does not take longer with more rounds.
import { native } from "./binding.js";

/**
 * Runs work(0) to work(count - 1). All rounds except the first and the last two must make, free and leave behind
 * tensors of the same sizes. What a round leaves behind may be used later by another loop with the same number of
 * rounds, or by all rounds together.
 */
export const repeat = (count: number, work: (round: number) => void): void => native.repeat(count, work);

/** Runs `work` on consecutive tiles of `size` that cover `total`; the last may be smaller. */
export const forEachTile = (total: number, size: number, work: (start: number, length: number) => void): void =>
  repeat(Math.ceil(total / size), (round) => work(round * size, Math.min(size, total - round * size)));

/** Whether the engine leaves out work that needs no more memory than other work. */
export const leavesOut = (): boolean => native.leavesOut();
