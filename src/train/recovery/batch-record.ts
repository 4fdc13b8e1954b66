// The batches of a failed step, written to a file for a person: token ids, which of them are learnt, the rows they come
// from, and their text.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { NO_LABEL, type Batch, type BatchState } from "../../data/batches.js";
import { onFirst } from "../../parallel/collectives.js";
import { batchesPerStep } from "../course/run-length.js";
import type { Run } from "../prepare.js";

export interface StepRecordFacts {
  kind: "nonfinite" | "spike";
  step: number;
  message: string;
  learningRate: number;
  /** Null if it is not finite. */
  loss: number | null;
}

export interface PlacedBatch {
  at: BatchState;
  batch: Batch;
}

/** The batches of the step that began at `at`; leaves the position of the data as it was. */
export function batchesFrom({ data, settings, ranks }: Run, at: BatchState): PlacedBatch[] {
  const before = data.state();
  data.restore(at);
  const batches = data.nextStep(batchesPerStep(settings, ranks));
  data.restore(before);
  return batches;
}

/**
 * Writes KIND-step-N.json into the run's folder. Returns its path, or why it could not be written: that does not end
 * training.
 */
export function recordBatches(
  { settings, tokenizer, ranks }: Run,
  facts: StepRecordFacts,
  batches: PlacedBatch[],
  times = 1,
): string {
  const path = join(settings.output_dir, `${facts.kind}-step-${facts.step}${times > 1 ? `-${times}` : ""}.json`);
  const record = {
    ...facts,
    batches: batches.map(({ at, batch }) => ({ ...at, documents: documentsOf(batch, tokenizer) })),
  };
  return onFirst(ranks, () => {
    try {
      mkdirSync(settings.output_dir, { recursive: true });
      writeFileSync(path, `${JSON.stringify(record)}\n`);
      return path;
    } catch (failure) {
      return `(no file: ${(failure as Error).message})`;
    }
  });
}

function documentsOf({ tokens, labels, segments, places }: Batch, { decode }: Run["tokenizer"]): object[] {
  let start = 0;
  return segments.map((length, i) => {
    const [from, to] = [start, (start += length)];
    const ids = Array.from(tokens.subarray(from, to));
    // A label is the next token; so a token is learnt if the label before it is set.
    const trained = ids.map((_, t) => (t > 0 && labels[from + t - 1] !== NO_LABEL ? 1 : 0));
    return { place: places?.[i] ?? null, tokens: ids, trained, text: decode(ids) };
  });
}
