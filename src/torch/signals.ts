// Signals that ask for a stop while a long call of the engine runs. A native handler prints a prepared line at once; a
// second signal after that line ends the process with another line. See native/core/signals.cpp.
import { native } from "./binding.js";

export interface StopWords {
  /** Printed at the first signal, with its newline. */
  acknowledged: string;
  /** Printed before a later SIGINT or SIGTERM ends the process with 128 + its number; nothing else is done. */
  left: string;
}

/**
 * From now on the first SIGINT, SIGTERM or SIGHUP does not end the process; a line that cannot be written to `fd` is
 * dropped.
 */
export const listenForStop = (fd: number, { acknowledged, left }: StopWords): void =>
  native.listenForStop(fd, acknowledged, left);

export const setStopWords = ({ acknowledged, left }: StopWords): void => native.setStopWords(acknowledged, left);

/** The number of the signal that asked for a stop; 0 while none has. */
export const stopSignal = (): number => native.stopSignal();

/** Gives signals their earlier effect back. */
export const forgetStop = (): void => native.forgetStop();
