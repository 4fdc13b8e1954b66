// The training loop, one page: step, record, evaluate, save, and a look whether the run shall stop. Events go to the sink; what a step
// does is in run-step.ts, what it measures in step.ts, what follows when it goes wrong in recovery.ts. Stops after the step in
// which a stop is asked for, with a checkpoint.
import { setImmediate } from "node:timers/promises";

import { BadValuesError } from "../errors.js";
import { formatLoss } from "../metrics/sinks/console.js";
import type { Sink } from "../metrics/record.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import { whenDiverged } from "../reversible/couplings/registry.js";
import { synchronize } from "../torch/device.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { during } from "../torch/span.js";
import { evaluateLoss } from "../network/evaluate.js";
import { expertLoad } from "../step/expert-load.js";
import { asEvaluated, asOrdinary, type Network } from "../network/network.js";
import { type MemoryTerms, memoryTerms } from "../step/memory-terms.js";
import { type Phase, phaseAt } from "./phases.js";
import type { Run } from "./prepare.js";
import { Recovery } from "./recovery/recovery.js";
import type { Stepped } from "./run-step.js";
import { saveBetween, saveResult, saveStopped } from "./folder/safe-saves.js";
import type { StopSignal } from "./stop.js";

export interface Outcome {
  stopped: boolean;
  steps: number;
  /** The folder written last; empty when the run was stopped before its first step. */
  folder: string;
  /** The peak of the last step by term; null when no step was left to do. */
  memory: MemoryTerms | null;
}

export async function train(run: Run, sink: Sink, stop: StopSignal = { aborted: false }): Promise<Outcome> {
  const { settings, totalSteps, startStep } = run;
  const due = (every: number, step: number): boolean => every > 0 && step % every === 0 && step < totalSteps;
  const recovery = new Recovery(run, sink);
  let memory: MemoryTerms | null = null;
  /** Evaluates and saves what is due after a step; returns the folder with which the run stops, or null when it goes on. */
  const follow = (step: number): string | null => {
    const ended = step === phaseAt(run.phases, step).lastStep && step < totalSteps;
    if (due(settings.eval_steps, step) || ended) evaluate(run, sink, step, "trained");
    if (!due(settings.save_steps, step) && !(stop.aborted && step < totalSteps)) return null;
    const folder = stop.aborted ? saveStopped(run, sink, step) : saveBetween(run, sink, step);
    if (folder === null) return null;
    recovery.saved(step, folder);
    stop.saved?.(folder);
    sink.write({ kind: "message", step, message: `saved ${folder}`, level: "info" });
    // Also when that was asked for while saving.
    return stop.aborted ? folder : null;
  };
  if (startStep === 0) {
    const pretrained = run.converted ? evaluate(run, sink, 0, "ordinary") : null;
    const converted = evaluate(run, sink, 0, "trained");
    if (pretrained !== null && converted !== null) warnOfLoss(run, sink, pretrained, converted);
  }
  let done = startStep;
  if (stop.aborted && done < totalSteps) return { stopped: true, steps: done, folder: "", memory };
  // A kill can fall between a step that lasts by itself and what follows it.
  const stoppedWith = startStep > 0 && run.resumedFrom?.inPlace ? follow(startStep) : null;
  if (stoppedWith !== null) return { stopped: true, steps: startStep, folder: stoppedWith, memory };
  while (done < totalSteps) {
    const step = done + 1;
    const phase = phaseAt(run.phases, step);
    if (step === phase.firstStep) announce(run, sink, phase);
    run.state.moveTo(step);
    const began = performance.now();
    resetPeak(run.settings.device);
    const made = recovery.attempt(step, phase, due(settings.save_steps, step) || step === totalSteps);
    done = typeof made === "number" ? made : step;
    if (typeof made !== "number") memory = record(run, sink, { step, phase, began, made });
    await setImmediate();
    if (done !== step) continue;
    const folder = follow(step);
    if (folder !== null) return { stopped: true, steps: step, folder, memory };
  }
  evaluate(run, sink, totalSteps, "trained");
  if (run.state.network.coupling !== ordinary) evaluate(run, sink, totalSteps, "ordinary");
  const folder = await saveResult(run, sink, stop);
  sink.write({ kind: "message", step: totalSteps, message: `saved ${folder}`, level: "info" });
  return { stopped: false, steps: totalSteps, folder, memory };
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

interface Made {
  step: number;
  phase: Phase;
  /** On the clock of `performance`. */
  began: number;
  made: Stepped;
}

/** What a step took and gave, to the sink where a line is due. */
function record(
  run: Run,
  sink: Sink,
  { step, phase, began, made: { result, batches, learningRate } }: Made,
): MemoryTerms {
  const { settings, state, states } = run;
  const { network } = state;
  const { device } = network;
  synchronize(device);
  const stepMs = performance.now() - began;
  const { peakBytes, liveBytes } = ledger(device);
  const memory = memoryTerms(network, states, result);
  if (step % settings.logging_steps !== 0 && step !== run.totalSteps) return memory;
  sink.write({
    kind: "step",
    step,
    phase: phase.name,
    learningRate,
    stepMs,
    peakBytes,
    liveBytes,
    epoch: epochOf(run),
    loss: result.loss,
    gradNorm: result.gradNorm,
    trainedTokens: result.trainedTokens,
    tokensPerSecond: (batches.reduce((sum, { tokens }) => sum + tokens.length, 0) / stepMs) * 1000,
    rssBytes: process.memoryUsage.rss(),
    streamBytes: result.streamBytes,
    bitBytes: result.bitBytes,
    reconstructionError: result.reconstructionError,
    inverse: result.inverse,
    expertLoad: expertLoad(result.expertCounts),
    auxLoss: result.auxLoss,
    zLoss: result.zLoss,
  });
  const { diverged = [] } = result.inverse ?? {};
  if (diverged.length > 0) {
    const message = `the inverse of ${diverged.length === 1 ? "block" : "blocks"} ${diverged.join(", ")} diverged: gradients below are wrong. ${whenDiverged(run.settings.coupling)}`;
    sink.write({ kind: "message", step, message, level: "warning" });
  }
  return memory;
}

/** In the quality study, networks that began more than this share above the pretrained one did not catch up with ordinary fine-tuning. */
const LOST_SHARE = 0.01;

function warnOfLoss({ state: { network } }: Run, sink: Sink, pretrained: number, converted: number): void {
  if (converted <= pretrained * (1 + LOST_SHARE)) return;
  const message =
    `${network.coupling.name} begins at a held-out loss of ${formatLoss(converted)}, the pretrained network at ${formatLoss(pretrained)}: ` +
    "steps will go into winning back what conversion lost. Use coupling momentum with gamma -1/256 and integer streams, " +
    "or coupling ordinary with method checkpoint, which converts nothing.";
  sink.write({ kind: "message", step: 0, message, level: "warning" });
}

/** Held-out loss, as the network that is trained or as the ordinary one that its weights make; null without rows for it. */
function evaluate(run: Run, sink: Sink, step: number, as: "trained" | "ordinary"): number | null {
  if (run.evalBatches.length === 0) return null;
  const network = as === "trained" ? asEvaluated(run.state.network) : asOrdinary(run.state.network);
  const evalLoss = during("evaluation", () => lossOrNaN(network, run, sink, step));
  sink.write({ kind: "eval", step, epoch: epochOf(run), evalLoss, evalPerplexity: Math.exp(evalLoss), network: as });
  return evalLoss;
}

/** An evaluation that meets values that are not finite is said, and ends no training: what it measured is saved or mended by the steps. */
function lossOrNaN(network: Network, { evalBatches }: Run, sink: Sink, step: number): number {
  try {
    return evaluateLoss(network, evalBatches);
  } catch (failure) {
    if (!(failure instanceof BadValuesError)) throw failure;
    sink.write({ kind: "message", step, message: `evaluation: ${failure.message}`, level: "warning" });
    return Number.NaN;
  }
}

function epochOf({ data }: Run): number {
  const { epoch, position } = data.state();
  return epoch + position / data.batchesPerEpoch;
}
