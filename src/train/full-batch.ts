// A batch without a file: rows of random tokens, each as long as it may be and one document, all tokens but the last trained.
// For benches, and for plans: shorter documents take less, since attention of a row is largest when it is one document.
import { type Batch, NO_LABEL, type SizedBatch } from "../data/batches.js";
import { seedFor } from "../torch/random.js";
import type { TrainSettings } from "./settings/rows.js";

type Sizes = Pick<TrainSettings, "per_device_train_batch_size" | "max_length">;

/** A full batch of which only sizes are known, for an engine that looks at nothing else. */
export function sizedBatch({ per_device_train_batch_size: rows, max_length: length }: Sizes): SizedBatch {
  const values = { length: rows * length };
  return {
    tokens: values,
    labels: values,
    positions: values,
    segments: new Array<number>(rows).fill(length),
    trainedTokens: rows * (length - 1),
  };
}

/** Random tokens by `seed`. */
export function fullBatch(
  { per_device_train_batch_size: rows, max_length: length }: Sizes,
  vocabSize: number,
  seed: number,
): Batch {
  const tokens = Int32Array.from({ length: rows * length }, (_, i) => seedFor(seed, i) % vocabSize);
  return {
    tokens,
    labels: Int32Array.from(tokens, (_, i) => ((i + 1) % length === 0 ? NO_LABEL : tokens[i + 1])),
    positions: Int32Array.from(tokens, (_, i) => i % length),
    segments: new Array<number>(rows).fill(length),
    trainedTokens: rows * (length - 1),
  };
}
