// The training loop, one page: step, record, evaluate, save, and a turn of the event loop so that signals are heard. Events
// go to the sink; what a step does is in run-step.ts, what it measures in step.ts. Stops after the step in which `signal` is raised, with a checkpoint.
import { setImmediate } from "node:timers/promises";

import { formatLoss } from "../metrics/console.js";
import type { Sink } from "../metrics/record.js";
import { ordinary } from "../reversible/ordinary.js";
import { synchronize } from "../torch/device.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { during } from "../torch/moment.js";
import { evaluateLoss } from "./evaluate.js";
import { expertLoad } from "./expert-load.js";
import { asEvaluated, asOrdinary } from "./network.js";
import { type MemoryTerms, memoryTerms } from "./memory-terms.js";
import { type Phase, phaseAt } from "./phases.js";
import type { Run } from "./prepare.js";
import { enterPhase, runStep } from "./run-step.js";
import { saveBetween, saveResult, saveStopped } from "./safe-saves.js";

export interface Outcome {
  stopped: boolean;
  steps: number;
  /** The folder written last. */
  folder: string;
  /** The peak of the last step by term; null when no step was left to do. */
  memory: MemoryTerms | null;
}

export async function train(run: Run, sink: Sink, signal?: AbortSignal): Promise<Outcome> {
  const { settings, totalSteps, startStep } = run;
  const due = (every: number, step: number): boolean => every > 0 && step % every === 0 && step < totalSteps;
  let memory: MemoryTerms | null = null;
  if (startStep === 0) {
    const pretrained = run.converted ? evaluate(run, sink, 0, "ordinary") : null;
    const converted = evaluate(run, sink, 0, "trained");
    if (pretrained !== null && converted !== null) warnOfLoss(run, sink, pretrained, converted);
  }
  for (let step = startStep + 1; step <= totalSteps; step++) {
    const phase = phaseAt(run.phases, step);
    if (step === phase.firstStep) {
      announce(run, sink, phase);
      enterPhase(run, phase);
    }
    memory = oneStep(run, sink, step, phase);
    await setImmediate();
    const ended = step === phase.lastStep && step < totalSteps;
    if (due(settings.eval_steps, step) || ended) evaluate(run, sink, step, "trained");
    const stopping = signal?.aborted === true && step < totalSteps;
    if (due(settings.save_steps, step) || stopping) {
      const folder = stopping ? saveStopped(run, sink, step) : saveBetween(run, sink, step);
      if (folder !== null) sink.write({ kind: "message", step, message: `saved ${folder}`, level: "info" });
      if (stopping && folder !== null) return { stopped: true, steps: step, folder, memory };
    }
  }
  evaluate(run, sink, totalSteps, "trained");
  if (run.network.coupling !== ordinary) evaluate(run, sink, totalSteps, "ordinary");
  const folder = await saveResult(run, sink, signal);
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
  sink.write({ kind: "message", step: firstStep, message: `steps ${firstStep} to ${lastStep}: ${PHASES[name]}`, level: "info" });
}

function oneStep(run: Run, sink: Sink, step: number, phase: Phase): MemoryTerms {
  const { settings, network } = run;
  const { device } = network;
  const started = performance.now();
  resetPeak(device);
  const { result, batches, learningRate } = runStep(run, phase, step);
  synchronize(device);
  const stepMs = performance.now() - started;
  const { peakBytes, liveBytes } = ledger(device);
  const memory = memoryTerms(network, run.states, result);
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
    const message = `the inverse of ${diverged.length === 1 ? "block" : "blocks"} ${diverged.join(", ")} diverged: gradients below are wrong. Use --reconstruction stored_hint, more damping, or coupling momentum.`;
    sink.write({ kind: "message", step, message, level: "warning" });
  }
  return memory;
}

/** In the quality study, networks that began more than this share above the pretrained one did not catch up with ordinary fine-tuning. */
const LOST_SHARE = 0.01;

function warnOfLoss({ network }: Run, sink: Sink, pretrained: number, converted: number): void {
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
  const network = as === "trained" ? asEvaluated(run.network) : asOrdinary(run.network);
  const evalLoss = during("evaluation", () => evaluateLoss(network, run.evalBatches));
  sink.write({ kind: "eval", step, epoch: epochOf(run), evalLoss, evalPerplexity: Math.exp(evalLoss), network: as });
  return evalLoss;
}

function epochOf({ data }: Run): number {
  const { epoch, position } = data.state();
  return epoch + position / data.batchesPerEpoch;
}
