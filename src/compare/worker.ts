// The process of one row: takes a job from its parent, then makes a step at each further message, and answers each with
// figures or an error. Ends with its parent.
import { readFileSync, writeFileSync } from "node:fs";

import { type Job, openWork, type Start, type StepFigures } from "./work.js";

/** "step", after a job. */
export type Request = Job | "step";

export type Answer =
  | { kind: "start"; start: Start }
  | { kind: "step"; figures: StepFigures; rssPeakBytes: number }
  | { kind: "failure"; outOfMemory: boolean; message: string };

// If the system has to end a process for want of memory, it should be this one and not the bench.
try {
  writeFileSync("/proc/self/oom_score_adj", "1000");
} catch {
  // Not Linux, or not allowed: then the system chooses.
}

/** Most bytes of physical memory that this process has had, including code and libraries. */
function rssPeakBytes(): number {
  try {
    return Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
  } catch {
    return process.resourceUsage().maxRSS * 1024;
  }
}

let step: () => StepFigures;

async function answer(request: Request): Promise<Answer> {
  try {
    if (request === "step") return { kind: "step", figures: step(), rssPeakBytes: rssPeakBytes() };
    const work = await openWork(request);
    step = work.step;
    return { kind: "start", start: work.start };
  } catch (failure) {
    const { message, code } = failure as Error & { code?: string };
    return { kind: "failure", outOfMemory: code === "OUT_OF_MEMORY" || /allocation failed/.test(message), message };
  }
}

process.on("disconnect", () => process.exit(1));
process.on("message", async (request: Request) => void process.send?.(await answer(request)));
