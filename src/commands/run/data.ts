// `revmoe data`: shows the first rows as the model sees them, then a summary of all rows. With --json it prints one
// line of JSON per row, and the summary for people on the other stream.
import { join } from "node:path";

import { findModel } from "../../checkpoint/run/find-model.js";
import { writeFileDurably } from "../../checkpoint/files/disk.js";
import { folderFiles, type ModelSource, openSource } from "../../checkpoint/source.js";
import { loadWithInput } from "../../data/prepared/tokenizer-input.js";
import { rowsPage } from "../../data/preview/html.js";
import { type ShownRow, shownRows } from "../../data/preview/shown-rows.js";
import { summarize } from "../../data/preview/summary.js";
import { markedText, specialNames } from "../../data/preview/token-text.js";
import { rowText, rowTitle, summaryLines } from "../../data/preview/words.js";
import { resolveSources } from "../../hub/datasets.js";
import { statOf } from "../../read-file.js";
import { resolveModel } from "../../hub/resolve.js";
import { canColor, writeRaw } from "../../metrics/output.js";
import { withAddedTokens } from "../../train/files/added-tokens.js";
import { withGivenFiles } from "../../train/files/given-files.js";
import { endNote, lengthNote } from "../../train/files/source-notes.js";
import { checkTokens, documentSettings, openRows, readData } from "../../train/prepare-data.js";
import { TRAIN_ROWS } from "../../train/settings/rows.js";
import type { ROWS } from "../data.js";
import type { CommandInput } from "../command.js";

export async function run({ settings, given, json, out, err }: CommandInput<typeof ROWS>): Promise<number> {
  const { train_file: file, max_length } = settings;
  const trainFile = await resolveSources(file, "train_file", { out: err });
  const { folder } = findModel(await resolveModel(settings.model, { out: err }));
  const added = withAddedTokens(sourceOf(folder), settings);
  const loaded = loadWithInput(withGivenFiles(added.source, settings));
  const names = specialNames(loaded.input);
  const count = json && !given.has("rows") ? Number.POSITIVE_INFINITY : settings.rows;
  const kept: ShownRow[] = [];
  const rows = {
    ...settings,
    train_file: trainFile,
    validation_file: "",
    validation_rows: 0,
    seed: TRAIN_ROWS.seed.default,
  };
  const { batches } = await openRows("train_file", rows);
  for await (const row of shownRows(batches(), count, { ...loaded, names, settings: documentSettings(settings) })) {
    if (json) out.write(`${jsonLine(row, file)}\n`);
    else {
      out.write(`${rowTitle(row)}\n`);
      writeRaw(out, `${rowText(row, canColor(out)).trimEnd()}\n\n`);
    }
    if (settings.html !== "") kept.push(row);
  }

  const { documents, report, found, notes } = await readData(rows, { ...loaded, out: err });
  const { max_position_embeddings: positions, vocab_size: vocab } = added.source.config;
  if (typeof vocab === "number") checkTokens(documents, Math.max(vocab, loaded.tokenizer.vocabSize));
  const summary = summarize(documents, (id) => names.has(id), settings);
  documents.close();
  // A folder with only a tokenizer does not say how many positions or tokens a model has.
  const maxPositions = typeof positions === "number" ? positions : Number.POSITIVE_INFINITY;
  const tokenName = (id: number): string => names.get(id) ?? JSON.stringify(loaded.tokenizer.decode([id]));
  const lines = summaryLines({
    file,
    report,
    summary,
    max_length,
    tokenName,
    found,
    notes: [...added.notes, ...lengthNote(settings, { maxPositions }), ...endNote(report, loaded.tokenizer), ...notes],
  });
  (json ? err : out).write(`${lines.join("\n")}\n`);
  if (settings.html !== "") {
    writeFileDurably(settings.html, rowsPage(`Rows of ${file}`, lines, kept));
    err.write(`${settings.html}: ${kept.length} rows written as a page\n`);
  }
  return 0;
}

/** A folder with a tokenizer but no model is enough. */
function sourceOf(folder: string): ModelSource {
  const configPath = join(folder, "config.json");
  if (statOf(folder)?.isDirectory() !== true || statOf(configPath)) return openSource(folder);
  return { ...folderFiles(folder), config: {}, configPath, openWeights: () => openSource(folder).openWeights() };
}

/** Includes the place only if it says more than file and row. */
function jsonLine(shown: ShownRow, file: string): string {
  const { row, place, tokens, trainedTokens, cutTokens, documents, texts } = shown;
  return JSON.stringify({
    row,
    ...(place !== `${file}:${row}` && { place }),
    tokens,
    trainedTokens,
    ...(cutTokens > 0 && { cutTokens }),
    ...(documents > 1 && { documents }),
    marked: markedText(texts()),
  });
}
