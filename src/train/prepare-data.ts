// From the files of rows that settings name to documents, trained and held out; and whether a model has all of their
// tokens.
import { join } from "node:path";

import { type Documents, eachDocument, inMemory } from "../data/documents.js";
import type { DataReport, DocumentSettings } from "../data/make-documents.js";
import { type HeldBack, holdBack } from "../data/prepared/hold-back.js";
import type { RowBatch } from "../data/sources/open-sources.js";
import { cacheKey } from "../data/prepared/key.js";
import { prepareDocuments, type Prepared } from "../data/prepared/prepare.js";
import type { TokenizerInput } from "../data/prepared/tokenizer-input.js";
import { isMixed } from "../data/sources/mix.js";
import { openGivenRows, openSources, type OpenSources } from "../data/sources/open-sources.js";
import { parseSources } from "../data/sources/parse.js";
import { unreadVariables } from "../data/template/unread-variables.js";
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";
import { UserError } from "../errors.js";
import { cacheFolder } from "../hub/names.js";
import { statOf } from "../read-file.js";
import type { Output } from "../metrics/output.js";
import type { TrainSettings } from "./settings/settings.js";

export type DataSettings = Omit<DocumentSettings, "train_on"> &
  Pick<TrainSettings, "train_on" | "train_file" | "validation_file" | "validation_rows" | "dataset_cache" | "seed">;

/** Rows that a program gives, by the setting that would otherwise name their files. */
export type GivenRows = Partial<Record<"train_file" | "validation_file", readonly unknown[]>>;

export interface DataTools {
  tokenizer: Tokenizer;
  input: TokenizerInput;
  /** Where progress is shown. */
  out?: Output;
  given?: GivenRows;
}

export interface RunRows {
  /** The caller closes both. */
  documents: Documents;
  evalDocuments: Documents;
  report: DataReport;
  /** What the files are and what their rows hold, one line per source. */
  found: string[];
  notes: string[];
  /** Whether the trained documents come from the cache of an earlier start. */
  fromCache: boolean;
}

/**
 * Reads the rows that settings name as documents, trained and held out. Errors: UserError for rows, and for settings
 * that do not fit them.
 */
export async function readData(settings: DataSettings, tools: DataTools): Promise<RunRows> {
  const { validation_rows: count } = settings;
  const rows = await openRows("train_file", settings, tools.given);
  const split = holdBack(rows.batches(), count);
  const trained = await prepare(settings, tools, rows, ["all but", count], () => someLeft(split, settings));
  const held = async function* (): AsyncGenerator<RowBatch> {
    // Rows that came from the cache were not read, so pass them to reach the held-out ones.
    if (trained.fromCache) for await (const _ of split.batches());
    yield* split.held();
  };
  try {
    const others = settings.validation_file ? await openRows("validation_file", settings, tools.given) : undefined;
    const evaluated = others
      ? await prepare(settings, tools, others, ["all but", 0], () => others.batches())
      : count > 0
        ? await prepare(settings, tools, rows, ["last", count], held)
        : undefined;
    const { documents, report } = trained;
    const evalDocuments = evaluated?.documents ?? inMemory([]);
    const found = [rows, others].flatMap((each) => each?.notes ?? []);
    const notes = [trained, evaluated].flatMap((each) => each?.notes ?? []);
    if (!trained.fromCache) notes.push(...mixNotes(rows));
    notes.push(...unreadVariables(tools.tokenizer, settings.chat_template_kwargs));
    return { documents, report, evalDocuments, found, notes, fromCache: trained.fromCache };
  } catch (failure) {
    trained.documents.close();
    throw failure;
  }
}

/** How many rows of each source were drawn, if they are drawn by weight. */
function mixNotes({ sources, rowsTaken }: OpenSources): string[] {
  const counts = rowsTaken();
  const words = sources.map(({ file }, i) => `${counts[i]} of ${file}`);
  return isMixed(sources) ? [`rows are drawn by weight until a source is at its end: ${words.join(", ")}`] : [];
}

/** The rows that a setting names, or those given instead. */
export function openRows(
  name: "train_file" | "validation_file",
  settings: Pick<DataSettings, "train_file" | "validation_file" | "format" | "columns" | "seed">,
  given: GivenRows = {},
): Promise<OpenSources> {
  const rows = given[name];
  return rows === undefined
    ? openSources(parseSources(settings[name], name), settings)
    : openGivenRows(rows, settings[name], settings);
}

async function* someLeft(split: HeldBack, { train_file, validation_rows }: DataSettings): AsyncGenerator<RowBatch> {
  let left = false;
  for await (const batch of split.batches()) {
    left = true;
    yield batch;
  }
  if (left) return;
  const rows = split.held().reduce((sum, batch) => sum + batch.rows.length, 0);
  throw new UserError(
    `validation_rows: ${validation_rows} rows cannot be held out of ${rows} (${train_file}). Use fewer.`,
  );
}

/** Makes documents of rows; `part` says which rows of the files they are. */
function prepare(
  settings: DataSettings,
  tools: DataTools,
  { files, sources }: OpenSources,
  part: [string, number],
  batches: () => AsyncIterable<RowBatch>,
): Promise<Prepared> {
  const ours = documentSettings(settings);
  // The cache finds rows by the content of their files.
  const key =
    settings.dataset_cache && files.length > 0
      ? cacheKey({
          files: files.map(({ path }) => path),
          tokenizer: tools.input,
          others: { settings: ours, part, sources, order: isMixed(sources) ? settings.seed : 0 },
        })
      : undefined;
  const folder = join(cacheFolder(process.env), "rows");
  const size = files.reduce((sum, { path }) => sum + (statOf(path)?.size ?? 0), 0);
  return prepareDocuments({
    ...tools,
    share: () => (size === 0 ? undefined : files.reduce((sum, { bytesRead }) => sum + bytesRead(), 0) / size),
    batches,
    settings: ours,
    cache: key === undefined ? undefined : { folder, key },
  });
}

/**
 * Settings that decide tokens and which are trained. It must have all of them, or the cache would give documents of
 * other settings; and no others.
 */
const DOCUMENT_SETTINGS = {
  format: true,
  columns: true,
  assistant_only_loss: true,
  completion_only_loss: true,
  train_on: true,
  chat_template_kwargs: true,
  max_length: true,
  excess_length_strategy: true,
} satisfies Record<keyof Required<DocumentSettings>, true>;

export const documentSettings = (settings: Omit<DocumentSettings, "train_on"> & Pick<DataSettings, "train_on">) =>
  Object.fromEntries(
    Object.entries(settings).filter(
      ([name, value]) => Object.hasOwn(DOCUMENT_SETTINGS, name) && !(name === "train_on" && value === "auto"),
    ),
  ) as unknown as DocumentSettings;

/** Errors: UserError for a document with a token that the model does not have. */
export function checkTokens(documents: Documents, vocabSize: number): void {
  if (documents.facts && documents.facts.largestToken < vocabSize) return;
  for (const { tokens, place } of eachDocument(documents)) {
    const bad = tokens.find((token) => token >= vocabSize);
    if (bad !== undefined) {
      throw new UserError(
        `${place}: token ${bad} is outside the model's vocabulary of ${vocabSize}. The tokenizer, or the input_ids of the row, were made for another one.`,
      );
    }
  }
}
