// The numbers of an event by name, for every sink but the console and metrics.jsonl. The names are those of
// transformers.
import type { RunEvent } from "../record.js";

export type Scalar = readonly [tag: string, value: number];

/** Empty for a message or a sample. What was not measured is left out. */
export function scalarsOf(event: RunEvent): Scalar[] {
  if (event.kind === "message" || event.kind === "sample") return [];
  if (event.kind === "eval") {
    const side = event.network === "trained" ? "eval" : "eval_ordinary";
    return [
      [`${side}/loss`, event.evalLoss],
      [`${side}/perplexity`, event.evalPerplexity],
      [`${side}/mean_token_accuracy`, event.evalMeanTokenAccuracy],
    ];
  }
  const scalars: [string, number | null][] = [
    ["loss", event.loss],
    ["mean_token_accuracy", event.meanTokenAccuracy],
    ["learning_rate", event.learningRate],
    ["grad_norm", event.gradNorm],
    ["epoch", event.epoch],
    ["tokens_per_second", event.tokensPerSecond],
    ["peak_bytes", event.peakBytes],
    ["aux_loss", event.auxLoss],
    ["z_loss", event.zLoss],
  ];
  return scalars.flatMap(([name, value]) => (value === null ? [] : [[`train/${name}`, value] as const]));
}
