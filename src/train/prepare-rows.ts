// From settings to what a run is trained on: the model's files with all that the run adds, rows as batches, and the
// step at which an earlier run stopped. Reads no weights. The caller owns the documents.
import { type ModelSource, openSource, withFilesKept } from "../checkpoint/source.js";
import { Batches } from "../data/batches.js";
import type { Documents } from "../data/documents.js";
import type { DataFingerprint } from "../data/fingerprint.js";
import { loadWithInput } from "../data/prepared/tokenizer-input.js";
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";
import { readArchitecture } from "../families/registry.js";
import type { Output } from "../metrics/output.js";
import { lengthNotes } from "./course/going-on.js";
import { type Collectives, inTurn } from "../parallel/collectives.js";
import { totalStepsOf } from "./course/run-length.js";
import { withAddedTokens } from "./files/added-tokens.js";
import { withGivenFiles } from "./files/given-files.js";
import { withTrainedEnd } from "./files/result-files.js";
import { checkSameData, withFingerprint } from "./folder/resume-checks.js";
import { type GivenRows, readData, type RunRows } from "./prepare-data.js";
import { findResumed, type Resumed } from "./prepare-resumed.js";
import { readLeftOut } from "./recovery/left-out.js";
import type { TrainSettings } from "./settings/settings.js";

/** What a run is trained on, from which batch on, and for how many steps. */
export interface BegunRows {
  /** The model's files, with all that the run adds to them. */
  source: ModelSource;
  tokenizer: Tokenizer;
  resumed: Resumed | undefined;
  read: RunRows;
  fingerprint: DataFingerprint;
  data: Batches;
  startStep: number;
  totalSteps: number;
  resumeNotes: string[];
  addedNotes: string[];
  endNotes: string[];
}

/** Puts what it opens into `made` at once, for the caller to close, also when it throws. Errors: UserError. */
export async function beginRows(
  asked: TrainSettings,
  made: { documents?: Documents[] },
  ranks: Collectives,
  out?: Output,
  rows?: GivenRows,
): Promise<BegunRows> {
  const opened = withFilesKept(openSource(asked.model));
  // Refuses a folder that holds no model we know, before rows are read and encoded.
  readArchitecture(opened.config, opened.configPath);
  const added = withAddedTokens(opened, asked);
  const given = withGivenFiles(added.source, asked);
  const resumed = findResumed(asked);
  const loaded = loadWithInput(given);
  const { tokenizer } = loaded;
  const read = await inTurn(ranks, () => readData(asked, { ...loaded, out, given: rows }));
  const { documents, evalDocuments } = read;
  made.documents = [documents, evalDocuments];
  const { source, notes: endNotes } = withTrainedEnd(given, tokenizer, documents);
  const fingerprinted = withFingerprint({
    documents,
    evalDocuments,
    tokenizer: source.readFile("tokenizer.json"),
    chatTemplate: tokenizer.chatTemplate,
  });
  const { fingerprint } = fingerprinted;
  const resumeNotes = resumed ? [...resumed.notes, ...checkSameData(asked, resumed, fingerprinted)] : [];
  const data = new Batches(documents, {
    rows: asked.per_device_train_batch_size,
    max_length: asked.max_length,
    packing: asked.packing,
    seed: asked.seed,
    shuffle: asked.shuffle,
  });
  if (resumed) {
    data.restore(resumed.state.batches);
    for (const place of readLeftOut(asked.output_dir)) data.leaveOut(place);
  }
  const totalSteps = totalStepsOf(asked, data.batchesPerEpoch, ranks);
  const startStep = resumed?.state.step ?? 0;
  if (resumed) resumeNotes.push(...lengthNotes(resumed, totalSteps, data.batchesPerEpoch, ranks));
  const notes = { resumeNotes, addedNotes: added.notes, endNotes };
  return { source, tokenizer, resumed, read, fingerprint, data, startStep, totalSteps, ...notes };
}
