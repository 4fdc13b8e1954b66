// Held-out rows, measured between the steps of a run: on the network as it is trained, or on the ordinary one with its
// weights.
import { BadValuesError } from "../../errors.js";
import type { Sink } from "../../metrics/record.js";
import { formatLoss } from "../../metrics/sinks/console.js";
import { evaluate } from "../../network/evaluate.js";
import { asEvaluated, asOrdinary, type Network } from "../../network/network.js";
import { during } from "../../torch/span.js";
import type { Evaluated } from "./best-model.js";
import type { Run } from "../prepare.js";
import { epochOf } from "./report-step.js";

/** Measures held-out rows and writes the result to the sink, as of `step`; null without such rows. */
export function evaluateRun(run: Run, sink: Sink, step: number, as: "trained" | "ordinary"): Evaluated | null {
  if (run.evalBatches.length === 0) return null;
  const network = as === "trained" ? asEvaluated(run.state.network) : asOrdinary(run.state.network);
  const measured = during("evaluation", () => measuredOrNaN(network, run, sink, step));
  const { loss, accuracy } = measured;
  sink.write({
    kind: "eval",
    step,
    epoch: epochOf(run),
    evalLoss: loss,
    evalPerplexity: Math.exp(loss),
    evalMeanTokenAccuracy: accuracy,
    network: as,
  });
  return measured;
}

/** NaN and a warning if values are not finite. That ends no training: the steps repair the network or end the run. */
function measuredOrNaN(network: Network, { evalBatches, ranks, settings }: Run, sink: Sink, step: number): Evaluated {
  try {
    return evaluate(network, evalBatches, undefined, ranks, settings.sequence_ranks);
  } catch (failure) {
    if (!(failure instanceof BadValuesError)) throw failure;
    sink.write({ kind: "message", step, message: `evaluation: ${failure.message}`, level: "warning" });
    return { loss: Number.NaN, accuracy: Number.NaN };
  }
}

/**
 * In the quality study, networks that began worse than the pretrained one by more than this share did not catch up with
 * ordinary fine-tuning.
 */
const LOST_SHARE = 0.01;

/** Evaluates before the first step; warns if conversion has cost much. */
export function evaluateAtStart(run: Run, sink: Sink): void {
  const pretrained = run.converted ? evaluateRun(run, sink, 0, "ordinary") : null;
  const converted = evaluateRun(run, sink, 0, "trained");
  if (pretrained === null || converted === null || converted.loss <= pretrained.loss * (1 + LOST_SHARE)) return;
  const message =
    `${run.state.network.coupling.name} begins at a held-out loss of ${formatLoss(converted.loss)}, the pretrained network at ${formatLoss(pretrained.loss)}: ` +
    "steps will go into winning back what conversion lost. Use coupling momentum with gamma -1/256 and integer streams, " +
    "or coupling ordinary with method checkpoint, which converts nothing.";
  sink.write({ kind: "message", step: 0, message, level: "warning" });
}
