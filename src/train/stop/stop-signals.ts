// How a run is asked to stop: Ctrl-C, SIGTERM, or a closed terminal (SIGHUP). The first signal is acknowledged at once,
// even within a step; the step then ends and is saved. A second Ctrl-C or SIGTERM leaves without this step, and says
// what is left. Signals belong to the process, so this is for one run at a time.
import { isatty } from "node:tty";

import { forgetStop, listenForStop, setStopWords, stopSignal, type StopWords } from "../../torch/signals.js";

export interface StopRequest {
  /** Whether a stop was asked for. */
  readonly aborted: boolean;
  /** The exit code of a process that a signal ended: 128 + its number. */
  readonly exitCode: number;
  /** Says that the run can go on from `folder` now. */
  saved(folder: string): void;
  forget(): void;
}

const STDOUT = 1;
const STDERR = 2;

/** Listens from now on; `from` is the folder that the run could go on from already. */
export function requestedStop(from: string | null): StopRequest {
  const onTerminal = isatty(STDOUT);
  // Clears a progress line that may stand where the words go.
  const clear = onTerminal && process.env.TERM !== "dumb" ? "\r\x1b[2K" : "";
  const words = (folder: string | null): StopWords => ({
    acknowledged: `${clear}stopping: a checkpoint is saved when this step ends; once more to leave at once, without this step\n`,
    left:
      `${clear}left at once: nothing of this step is saved; ` +
      (folder === null
        ? "there is no checkpoint to go on from\n"
        : `go on with: revmoe train ... --resume ${folder}\n`),
  });
  listenForStop(onTerminal ? STDOUT : STDERR, words(from));
  return {
    get aborted() {
      return stopSignal() !== 0;
    },
    get exitCode() {
      return stopSignal() === 0 ? 0 : 128 + stopSignal();
    },
    saved: (folder) => setStopWords(words(folder)),
    forget: forgetStop,
  };
}
