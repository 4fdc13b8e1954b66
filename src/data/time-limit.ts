// Work that a stranger's text decides about, stopped when it takes too long: a loop that does not end, a pattern that
// tries every way. Only the engine can stop those, and it does so for scripts: the work is called from one. That costs
// 0.1 ms, so rows are worked off many to a script. Work must change nothing outside until it is done, as it is done
// again where the machine, not the work, was slow.
import { Script } from "node:vm";
import { isMainThread } from "node:worker_threads";

import { UserError } from "../errors.js";

/** What is going on, for the message should it be stopped: as in "the chat template", and what to do about it. */
export interface Activity {
  what: string;
  remedy: string;
}

const SLOT = Symbol.for("revmoe.work");
const script = new Script('globalThis[Symbol.for("revmoe.work")]()');
const slot = globalThis as { [SLOT]?: () => void };
/** Rows share a script for so long. */
const SLICE_SECONDS = 0.5;
/** Where the machine was busy with other things, or asleep, the work gets so many times its time, once. */
const PATIENCE = 4;

let current: Activity | undefined;

/**
 * What `work` returns. Inside other such work the outer limit holds, and only the activity changes.
 * Errors: UserError when it takes more than `seconds`, behind what `place` says then.
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

/** `work` of each item, for which it may take `secondsFor` it. Errors: as inTime; `place` names the item. */
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

/** What this thread has taken; of a thread beside the first one, where Node cannot tell, nothing: it gets the patience. */
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
