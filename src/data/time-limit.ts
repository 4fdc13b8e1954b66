// Work that a stranger's text decides about, stopped when it takes too long: an endless loop, a pattern that tries all
// ways. Only the JavaScript engine can stop that, and only for scripts, so the work is called from a script. That costs
// 0.1 ms, so one script handles many rows. Work must change nothing outside before it is done, since it is repeated if
// the machine, not the work, was slow.
import { Script } from "node:vm";
import { isMainThread } from "node:worker_threads";

import { UserError } from "../errors.js";

/** What is going on, for the error if it is stopped, as in "the chat template"; and what to do about it. */
export interface Activity {
  what: string;
  remedy: string;
}

const SLOT = Symbol.for("revmoe.work");
const script = new Script('globalThis[Symbol.for("revmoe.work")]()');
const slot = globalThis as { [SLOT]?: () => void };
/** Rows share a script for about this long. */
const SLICE_SECONDS = 0.5;
/** If the machine was busy or asleep, the work gets its time multiplied by this, once. */
const PATIENCE = 4;

let current: Activity | undefined;

/**
 * Returns the result of `work`. Inside other such work, only the activity changes, and the outer limit holds. Errors:
 * UserError if it takes more than `seconds`; the message begins with `place`.
 */
export function inTime<T>(seconds: () => number, activity: Activity, work: () => T, place?: () => string): T {
  const outer = current;
  current = activity;
  try {
    return outer === undefined ? guarded(seconds(), work, place) : work();
  } finally {
    current = outer;
  }
}

/** Runs `work` for each item, for at most `secondsFor` it. Errors: as inTime; `place` names the item. */
export function eachInTime<T, R>(
  items: T[],
  activity: Activity,
  { secondsFor, place }: { secondsFor: (item: T) => number; place: (item: T) => string },
  work: (item: T) => R,
): R[] {
  const done: R[] = [];
  while (done.length < items.length) {
    const longest = secondsFor(items[done.length]);
    const slice = (): void => {
      const end = performance.now() + SLICE_SECONDS * 1000;
      do {
        current = activity;
        done.push(work(items[done.length]));
      } while (done.length < items.length && performance.now() < end && secondsFor(items[done.length]) <= longest);
    };
    inTime(
      () => longest + SLICE_SECONDS,
      activity,
      slice,
      () => place(items[done.length]),
    );
  }
  return done;
}

/**
 * Processor time of this thread. 0 if Node cannot tell, in other threads than the first: then it counts as a slow
 * machine.
 */
function cpuSeconds(): number {
  const { threadCpuUsage } = process as { threadCpuUsage?: () => NodeJS.CpuUsage };
  const usage = threadCpuUsage?.() ?? (isMainThread ? process.cpuUsage() : { user: 0, system: 0 });
  return (usage.user + usage.system) / 1e6;
}

function guarded<T>(seconds: number, work: () => T, place?: () => string): T {
  let result: { value: T } | undefined;
  for (const tries of [1, PATIENCE]) {
    const before = cpuSeconds();
    slot[SLOT] = () => {
      result = { value: work() };
    };
    try {
      script.runInThisContext({ timeout: Math.ceil(seconds * tries * 1000), displayErrors: false });
      return result!.value;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
      if (cpuSeconds() - before > seconds / 2) break;
    } finally {
      delete slot[SLOT];
    }
  }
  const { what, remedy } = current!;
  throw new UserError(
    `${place?.() ?? ""}${what} takes more than ${Math.ceil(seconds)} s (expected less than one). ${remedy}`,
  );
}
