// Figures of a step as a line of metrics, when one is due; losses and accuracies are means over the steps since the
// last line. Warns of two things: an inverse that diverged, and a network that ignores its input.
import type { Sink } from "../../metrics/record.js";
import { whenDiverged } from "../../reversible/couplings/registry.js";
import { expertLoad } from "../../step/router/expert-load.js";
import { type MemoryTerms, memoryTerms } from "../../step/memory-terms.js";
import { synchronize } from "../../torch/device.js";
import { ledger } from "../../torch/memory.js";
import type { Phase } from "../phases.js";
import type { Run } from "../prepare.js";
import type { Stepped } from "../run-step.js";

export interface Made {
  step: number;
  phase: Phase;
  /** Its start on the clock of `performance`. */
  began: number;
  made: Stepped;
}

/** Values that are averaged over the steps of a line; null where one of them is missing. */
type Averaged = Record<"loss" | "accuracy" | "auxLoss" | "zLoss", number | null>;

export class StepReport {
  readonly #run: Run;
  readonly #sink: Sink;
  #since: Averaged[] = [];
  #saidNothing = false;

  constructor(run: Run, sink: Sink) {
    this.#run = run;
    this.#sink = sink;
  }

  /** Begins new means: the next step is in another phase, or is made again. */
  restart(): void {
    this.#since = [];
  }

  /** Writes a step's line if it is due; returns the peak of the step by term. */
  write({ step, phase, began, made: { result, batches, learningRate } }: Made): MemoryTerms {
    const { settings, state, states, totalSteps } = this.#run;
    const { network } = state;
    synchronize(network.device);
    const stepMs = performance.now() - began;
    const { liveBytes } = ledger(network.device);
    const memory = memoryTerms(network, states, result);
    this.#since.push(result);
    if (step % settings.logging_steps !== 0 && step !== totalSteps) return memory;
    const { accuracy, ...means } = meansOf(this.#since);
    this.#since = [];
    this.#sink.write({
      kind: "step",
      step,
      phase: phase.name,
      learningRate,
      stepMs,
      ...memory,
      liveBytes,
      epoch: epochOf(this.#run),
      loss: means.loss ?? result.loss,
      meanTokenAccuracy: accuracy,
      gradNorm: result.gradNorm,
      trainedTokens: result.trainedTokens,
      tokensPerSecond: (batches.reduce((sum, { tokens }) => sum + tokens.length, 0) / stepMs) * 1000,
      rssBytes: process.memoryUsage.rss(),
      bitBytes: result.bitBytes,
      reconstructionError: result.reconstructionError,
      inverse: result.inverse,
      expertLoad: expertLoad(result.expertCounts),
      auxLoss: means.auxLoss,
      zLoss: means.zLoss,
    });
    this.#warn(step, result.loss, result.inverse?.diverged ?? []);
    return memory;
  }

  #warn(step: number, loss: number, diverged: number[]): void {
    const say = (message: string): void => this.#sink.write({ kind: "message", step, message, level: "warning" });
    if (diverged.length > 0) {
      const blocks = `${diverged.length === 1 ? "block" : "blocks"} ${diverged.join(", ")}`;
      say(`the inverse of ${blocks} diverged: gradients below are wrong. ${whenDiverged(this.#run.settings.coupling)}`);
    }
    const { state, totalSteps } = this.#run;
    const { vocabSize } = state.network.model.architecture;
    if (state.phase.name === "distillation" || !isUniform(loss, vocabSize)) return;
    // Said once, and again at the end, when the network is about to be saved.
    if (!this.#saidNothing || step === totalSteps) say(deadNetwork(vocabSize));
    this.#saidNothing = true;
  }
}

/**
 * Whether all `vocabSize` tokens are equally likely, as far as float32 can tell. No network that has learnt or was just
 * made does that.
 */
const isUniform = (loss: number, vocabSize: number): boolean =>
  Math.abs(loss - Math.log(vocabSize)) <= 2e-6 * Math.log(vocabSize);

const deadNetwork = (vocabSize: number): string =>
  `the loss is ln(${vocabSize}), as if every token had the same chance: the network says nothing, whatever it reads. Its head, its final norm or ` +
  "what leads there is zero or damaged; look at the model's folder with revmoe verify, or start anew with a lower learning_rate.";

export function epochOf({ data }: Pick<Run, "data">): number {
  const { epoch, position } = data.state();
  return epoch + position / data.batchesPerEpoch;
}

function meansOf(all: Averaged[]): Averaged {
  const mean = (name: keyof Averaged): number | null => {
    const values = all.map((each) => each[name]);
    return values.includes(null) ? null : (values as number[]).reduce((sum, value) => sum + value, 0) / values.length;
  };
  return { loss: mean("loss"), accuracy: mean("accuracy"), auxLoss: mean("auxLoss"), zLoss: mean("zLoss") };
}
