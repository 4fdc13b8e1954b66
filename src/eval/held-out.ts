// Held-out loss. Rows become batches with the settings of the run, or else with the defaults of training; a folder is
// measured as the network it was trained as, or as the ordinary one. Frees what it loads.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

import { readJsonObject } from "../checkpoint/folder.js";
import { type BatchList, sequentialBatches } from "../data/batches.js";
import { type Documents, inMemory } from "../data/documents.js";
import { type DataReport, makeDocuments } from "../data/make-documents.js";
import type { Row } from "../data/rows.js";
import { parseSources } from "../data/sources/parse.js";
import { readAllRows } from "../data/sources/open-sources.js";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer/tokenizer.js";
import { openNetwork, type OpenOptions } from "../generate/open-network.js";
import { freeModel } from "../model/model.js";
import { evaluateLoss } from "../network/evaluate.js";
import { documentSettings } from "../train/prepare-data.js";
import { TRAIN_ROWS } from "../train/settings/rows.js";
import type { SettingsOf } from "../settings/table.js";

/** Settings of training that decide how rows become batches. */
const DATA_ROWS = pick(TRAIN_ROWS);
export type DataSettings = SettingsOf<typeof DATA_ROWS>;

function pick({
  format,
  columns,
  assistant_only_loss,
  completion_only_loss,
  train_on,
  chat_template_kwargs,
  max_length,
  excess_length_strategy,
  per_device_eval_batch_size,
}: typeof TRAIN_ROWS) {
  const trained = { assistant_only_loss, completion_only_loss, train_on, chat_template_kwargs };
  return { format, columns, ...trained, max_length, excess_length_strategy, per_device_eval_batch_size };
}

/**
 * The rows of `file` as batches for the model in `folder`, with the settings of the run that made it, if there is one.
 */
export async function heldOutBatches(file: string, folder: string, run?: string): Promise<BatchList> {
  const rows = await readAllRows(parseSources(file, "validation_file"));
  return batchesOf(rows, loadTokenizer(folder), dataSettings(folder, run)).batches;
}

export function batchesOf(
  rows: Row[],
  tokenizer: Tokenizer,
  settings: DataSettings,
): { documents: Documents; batches: BatchList; report: DataReport } {
  const made = makeDocuments(rows, tokenizer, documentSettings(settings));
  const documents = inMemory(made.documents);
  const { per_device_eval_batch_size: size, max_length } = settings;
  return { documents, batches: sequentialBatches(documents, { rows: size, max_length }), report: made.report };
}

/** Mean cross-entropy of the trained tokens. */
export function lossOf(folder: string, batches: BatchList, options: OpenOptions): number {
  const network = openNetwork(folder, options);
  try {
    return evaluateLoss(network, batches);
  } finally {
    freeModel(network.model);
  }
}

/** The settings of the run in `run` (by default the folder's parent), or else the defaults of training. */
export function dataSettings(folder: string, run: string = dirname(folder)): DataSettings {
  const ofRun = existsSync(join(run, "metrics.jsonl")) ? readJsonObject(join(run, "config.json")) : {};
  return Object.fromEntries(
    Object.entries(DATA_ROWS).map(([name, row]) => [name, ofRun[name] ?? row.default]),
  ) as DataSettings;
}
