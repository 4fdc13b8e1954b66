// Loops over pieces of work that all need the same memory: tiles of tokens, matrices side by side, documents of one length. An
// engine that computes runs every round. One that counts runs a few, and lets one of them stand for all that are like it
// (shadow/rounds.ts), so that what is counted does not grow with the number of rounds.
import { native } from "./binding.js";

/**
 * Runs work(0) to work(count - 1). All rounds but the first and the last two must make, free and leave behind tensors of the same sizes.
 * What a round leaves behind may be used later, by another loop of as many rounds or by all of them together.
 */
export const repeat = (count: number, work: (round: number) => void): void => native.repeat(count, work);

/** Runs `work` on consecutive tiles of `size` that cover `total`, of which the last may be smaller. */
export const forEachTile = (total: number, size: number, work: (start: number, length: number) => void): void =>
  repeat(Math.ceil(total / size), (round) => work(round * size, Math.min(size, total - round * size)));

/** Whether work is left out that needs no more memory than other work does. */
export const leavesOut = (): boolean => native.leavesOut();
