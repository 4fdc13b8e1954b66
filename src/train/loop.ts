// The training loop on one page: step, report, evaluate, sample, save, and check whether to stop. Events go to the
// sink. A step is in run-step.ts, its figures in step.ts, what follows a failed step in recovery.ts, the result in
// end-run.ts. When a stop is asked for, the loop ends after the step, with a checkpoint.
import { setImmediate } from "node:timers/promises";

import type { Sink } from "../metrics/record.js";
import type { MemoryTerms } from "../step/memory-terms.js";
import { resetPeak } from "../torch/memory.js";
import { endRun } from "./course/end-run.js";
import { evaluateAtStart, evaluateRun } from "./course/evaluation.js";
import { onFirstSaving } from "./folder/shared-saves.js";
import { saveBetween, saveStopped } from "./folder/safe-saves.js";
import { type Phase, phaseAt } from "./phases.js";
import type { Run } from "./prepare.js";
import { Recovery } from "./recovery/recovery.js";
import { StepReport } from "./course/report-step.js";
import { sampleRun } from "./samples/sample.js";
import { agreedStop, type StopSignal } from "./stop/stop.js";
import { dueAfter, willSave } from "./course/when-due.js";

export interface Outcome {
  stopped: boolean;
  steps: number;
  /** The folder written last; empty when the run was stopped before its first step. */
  folder: string;
  /** The peak of the last step by term; null when no step was left to do. */
  memory: MemoryTerms | null;
}

export async function train(run: Run, sink: Sink, asked: StopSignal = { aborted: false }): Promise<Outcome> {
  const { settings, totalSteps, startStep, bestModel, ranks } = run;
  const stop = agreedStop(asked, ranks);
  const recovery = new Recovery(run, sink);
  const report = new StepReport(run, sink);
  const say = (step: number, message: string): void => sink.write({ kind: "message", step, message, level: "info" });
  let memory: MemoryTerms | null = null;
  let evaluated = -1;
  /**
   * Evaluates and saves what is due after a step; returns the folder with which the run stops, or null if it goes on.
   */
  const follow = (step: number): string | null => {
    const due = dueAfter(run, step);
    const measured =
      due.evaluation || step === run.state.phase.lastStep ? evaluateRun(run, sink, step, "trained") : null;
    if (measured !== null) evaluated = step;
    const bestBefore = bestModel.best && { ...bestModel.best };
    const isBest = measured !== null && bestModel.count(measured);
    // The samples after the last step are those of the result.
    if (due.samples && step < totalSteps && !bestModel.isExhausted) sampleRun(run, sink, step);
    const isKept = isBest && settings.load_best_model_at_end;
    if (isBest) bestModel.keep(step, measured);
    const stops = (): boolean => stop.aborted && step < totalSteps && !bestModel.isExhausted;
    if (!due.checkpoint && !isKept && !stops()) return null;
    const save = stops() ? saveStopped : saveBetween;
    const folder = onFirstSaving(run, () => save(run, sink, step));
    if (folder === null) {
      // A best model that was not saved cannot be the result.
      if (isKept) bestModel.restore(bestBefore);
      return null;
    }
    recovery.saved(step, folder);
    stop.saved?.(folder);
    say(step, `saved ${folder}`);
    // Asked again, since a stop may have been asked for while saving.
    return stops() ? folder : null;
  };
  if (startStep === 0) {
    evaluateAtStart(run, sink);
    sampleRun(run, sink, 0);
  }
  let done = startStep;
  if (stop.aborted && done < totalSteps) return { stopped: true, steps: done, folder: "", memory };
  // A kill can come between a step that lasts by itself and what follows the step.
  const stoppedWith = startStep > 0 && run.resumedFrom?.inPlace ? follow(startStep) : null;
  if (stoppedWith !== null) return { stopped: true, steps: startStep, folder: stoppedWith, memory };
  while (done < totalSteps && !bestModel.isExhausted) {
    const step = done + 1;
    const phase = phaseAt(run.phases, step);
    if (step === phase.firstStep) {
      announce(run, sink, phase);
      report.restart();
    }
    run.state.moveTo(step);
    const began = performance.now();
    resetPeak(run.settings.device);
    const made = recovery.attempt(step, phase, willSave(run, step));
    if (typeof made === "number") {
      done = made;
      report.restart();
    } else {
      done = step;
      memory = report.write({ step, phase, began, made });
    }
    await setImmediate();
    if (done !== step) continue;
    const folder = follow(step);
    if (folder !== null) return { stopped: true, steps: step, folder, memory };
  }
  if (bestModel.isExhausted) say(done, stoppedEarly(run));
  if (evaluated !== done) evaluateRun(run, sink, done, "trained");
  return { stopped: false, steps: done, folder: await endRun(run, sink, done, asked), memory };
}

function stoppedEarly({ settings, bestModel }: Run): string {
  const { early_stopping_patience: patience, early_stopping_threshold: least } = settings;
  const how = least > 0 ? `better by ${least} than the best before` : "better than the best before";
  return (
    `early_stopping_patience: ${patience} evaluations, one after the other, were not ${how}, so the run ends here; the best is ` +
    `${settings.metric_for_best_model} ${bestModel.best?.value.toFixed(4)} at step ${bestModel.best?.step}`
  );
}

const PHASES = {
  adapters: "adapters alone are trained",
  distillation: "the original network's logits are learnt",
  full: "training",
};

function announce({ phases }: Run, sink: Sink, { name, firstStep, lastStep }: Phase): void {
  if (phases.length === 1) return;
  sink.write({
    kind: "message",
    step: firstStep,
    message: `steps ${firstStep} to ${lastStep}: ${PHASES[name]}`,
    level: "info",
  });
}
