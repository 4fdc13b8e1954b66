// Held-out loss for `revmoe export`: rows are made into batches as the run made them, or else by the defaults of
// training, and a folder is measured as it was trained or as the ordinary network. Frees what it loads.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

import { readJsonObject } from "../checkpoint/folder.js";
import { type Batch, sequentialBatches } from "../data/batches.js";
import { makeDocuments } from "../data/documents.js";
import { readRows } from "../data/rows.js";
import { loadTokenizer } from "../data/tokenizer.js";
import { openNetwork, type OpenOptions } from "../generate/open-network.js";
import { freeModel } from "../model/model.js";
import { evaluateLoss } from "../train/evaluate.js";
import { TRAIN_ROWS } from "../train/settings-rows.js";

const { format, columns, assistant_only_loss, completion_only_loss, max_length, per_device_eval_batch_size } = TRAIN_ROWS;
const ROWS = { format, columns, assistant_only_loss, completion_only_loss, max_length, per_device_eval_batch_size };
type DataSettings = { -readonly [Name in keyof typeof ROWS]: (typeof ROWS)[Name]["default"] };

/** The rows of `file` as batches for the model in `folder`, read as the run did that made it, where there is one. */
export function heldOutBatches(file: string, folder: string, run: string = dirname(folder)): Batch[] {
  const settings = dataSettings(run);
  const { documents } = makeDocuments(readRows(file), loadTokenizer(folder), settings);
  return sequentialBatches(documents, { rows: settings.per_device_eval_batch_size, max_length: settings.max_length });
}

/** Mean cross-entropy of the trained tokens. */
export function lossOf(folder: string, batches: Batch[], options: OpenOptions): number {
  const network = openNetwork(folder, options);
  try {
    return evaluateLoss(network, batches);
  } finally {
    freeModel(network.model);
  }
}

function dataSettings(run: string): DataSettings {
  const ofRun = existsSync(join(run, "metrics.jsonl")) ? readJsonObject(join(run, "config.json")) : {};
  return Object.fromEntries(Object.entries(ROWS).map(([name, row]) => [name, ofRun[name] ?? row.default])) as DataSettings;
}
