// Compares the first steps of a run with its plan, and says so once where they take more. To take less harms nobody.
import { formatBytes } from "../format.js";
import type { Sink } from "../metrics/record.js";
import type { RunPlan } from "./run-plan.js";

const WATCHED_STEPS = 3;
const TOLERANCE = 0.05;

/** The sink, which is told once when one of the first steps takes more memory than was planned. */
export function watching(sink: Sink, { plan }: Pick<RunPlan, "plan">): Sink {
  let left = WATCHED_STEPS;
  const planned = plan.terms.peakBytes;
  return {
    write: (event) => {
      sink.write(event);
      // Old CUDA allocators do not say their peak.
      if (event.kind !== "step" || left === 0 || event.peakBytes === 0) return;
      left--;
      const off = event.peakBytes / planned - 1;
      if (off <= TOLERANCE) return;
      left = 0;
      const message = `the step took ${formatBytes(event.peakBytes)} at its peak, planned were ${formatBytes(planned)} (${(100 * off).toFixed(0)} %)`;
      sink.write({ kind: "message", step: event.step, message, level: "warning" });
    },
    close: () => sink.close(),
  };
}
