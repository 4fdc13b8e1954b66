// How the threads of a product wait for each other. This is set before OpenMP's runtime is loaded, which reads it once.
// Threads that sleep at once wake late, and a step has thousands of waits. Threads that spin take the processor from
// those they wait for as soon as anything else runs (figures in LOG.md). So they spin for a moment, and only if nothing
// else wanted to run when the program began.
import { readdirSync, readFileSync } from "node:fs";

/** Rounds of a waiting loop, 50 to 300 us: the fewest that were as fast as spinning without end. */
const SPINS = "5000";
const LOOKS = 5;

/** Sets OMP_WAIT_POLICY and GOMP_SPINCOUNT if neither is set. Programs started from here wait in the same way. */
export function settleWaiting(
  environment: NodeJS.ProcessEnv = process.env,
  others: () => number | null = othersRunning,
): void {
  if (environment.OMP_WAIT_POLICY !== undefined || environment.GOMP_SPINCOUNT !== undefined) return;
  environment.OMP_WAIT_POLICY = "passive";
  if (others() === 0) environment.GOMP_SPINCOUNT = SPINS;
}

/**
 * Number of threads of other programs that run or want to run, the least of a few looks; null if the system does not
 * say.
 */
export function othersRunning(): number | null {
  try {
    return Math.max(0, Math.min(...Array.from({ length: LOOKS }, () => allRunning() - ownRunning())));
  } catch {
    return null;
  }
}

function allRunning(): number {
  const running = / (\d+)\/\d+ /.exec(readFileSync("/proc/loadavg", "latin1"))?.[1];
  if (running === undefined) throw new Error("/proc/loadavg does not say how many threads run");
  return Number(running);
}

/** Includes Node's own threads, which compile and collect garbage beside its main thread. */
function ownRunning(): number {
  return readdirSync("/proc/self/task").filter((thread) => {
    try {
      return readFileSync(`/proc/self/task/${thread}/stat`, "latin1").includes(") R ");
    } catch {
      return false; // The thread ended in between.
    }
  }).length;
}
