// A batch without a file: rows of random tokens, each one document of max_length, of which all tokens but the last are
// trained. For benches and plans, as the largest case: attention takes most when a row is one document.
import { type Batch, NO_LABEL, type SizedBatch } from "../data/batches.js";
import { seedFor } from "../torch/random.js";
import type { TrainSettings } from "./settings/rows.js";

type Sizes = Pick<TrainSettings, "per_device_train_batch_size" | "max_length">;

/** A full batch that has only sizes, for an engine that reads no values. */
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

/** A full batch of random tokens that follow from `seed`. */
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
