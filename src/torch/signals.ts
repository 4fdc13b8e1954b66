// Signals that ask for a stop while a long call of the engine runs: a native handler prints the line that was prepared for it at
// once, and a second signal after that line ends the process with another one. See native/core/signals.cpp.
import { native } from "./binding.js";

export interface StopWords {
  /** Printed at the first signal, with its newline. */
  acknowledged: string;
  /** Printed before a later SIGINT or SIGTERM ends the process with 128 + its number, without anything else being done. */
  left: string;
}

/** From now on SIGINT, SIGTERM and SIGHUP end nothing at first; a line that cannot be written to `fd` is dropped. */
export const listenForStop = (fd: number, { acknowledged, left }: StopWords): void =>
  native.listenForStop(fd, acknowledged, left);

export const setStopWords = ({ acknowledged, left }: StopWords): void => native.setStopWords(acknowledged, left);

/** The number of the signal that asked for a stop; 0 while none has. */
export const stopSignal = (): number => native.stopSignal();

/** Signals do again what they did before. */
export const forgetStop = (): void => native.forgetStop();
