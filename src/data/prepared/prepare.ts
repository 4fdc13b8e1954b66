// Rows into documents, once: from the cache if the same rows were prepared before; else encoded, with threads if that
// takes long, and cached for the next start. Rows that take only a moment stay in memory and leave no file.
import type { Documents } from "../documents.js";
import { type DataReport, type DocumentSettings, reportOf } from "../make-documents.js";
import type { Output } from "../../metrics/output.js";
import { unshownNotes, unshownOf } from "../template/unshown-fields.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type CacheEntry, DocumentStore, entryPath, openEntry } from "./cache.js";
import { addCounts, NO_ROWS } from "./encode-rows.js";
import { encodedInOrder } from "./in-order.js";
import type { RowBatch } from "../sources/open-sources.js";
import { rowProgress } from "./progress.js";
import type { TokenizerInput } from "./tokenizer-input.js";

export interface Preparation {
  /** Called once, if nothing is in the cache. */
  batches(): AsyncIterable<RowBatch>;
  /** The share of the rows that was read so far, if it is known. */
  share?(): number | undefined;
  tokenizer: Tokenizer;
  input: TokenizerInput;
  settings: DocumentSettings;
  /** Undefined: cache nothing. */
  cache: CacheEntry | undefined;
  /** Where progress is shown. */
  out?: Output;
  /** Number of threads; by default that of processors. */
  threads?: number;
  /** Milliseconds before threads and the cache are used. */
  aloneMs?: number;
}

export interface Prepared {
  /** The caller closes them. */
  documents: Documents;
  report: DataReport;
  /** What the template does not show, and where rows are cached, or why they are not. */
  notes: string[];
  fromCache: boolean;
}

/**
 * Errors: UserError for the first row that has an error, when no token of all rows is trained, and when the chat
 * template does not show what the assistant writes.
 */
export async function prepareDocuments(preparation: Preparation): Promise<Prepared> {
  const { cache, out } = preparation;
  const notes: string[] = [];
  const note = (line: string): void => void notes.push(line);
  const known = cache && openEntry(cache, note);
  if (known) {
    const report = known.about as DataReport;
    notes.push(...unshownNotes(unshownOf(report.fields)), `prepared rows are taken from ${entryPath(cache)}`);
    return { documents: known.documents, report, notes, fromCache: true };
  }
  const store = new DocumentStore(cache, note);
  const progress = out && rowProgress(out);
  try {
    const report = await encodeAll(preparation, store, (rows) => progress?.at(rows, preparation.share?.()));
    notes.push(...unshownNotes(unshownOf(report.fields)));
    return { documents: store.finish(report), report, notes, fromCache: false };
  } catch (failure) {
    store.abandon();
    throw failure;
  } finally {
    progress?.close();
  }
}

async function encodeAll(
  { batches, settings, ...options }: Preparation,
  store: DocumentStore,
  seen: (rows: number) => void,
): Promise<DataReport> {
  let counts = NO_ROWS;
  let first: string | undefined;
  const formats = new Set<RowBatch["format"]>();
  const watched = async function* (): AsyncGenerator<RowBatch> {
    for await (const batch of batches()) {
      first ??= batch.rows[0].place;
      formats.add(batch.format);
      yield batch;
    }
  };
  for await (const { documents, counts: more, alone } of encodedInOrder(watched(), { ...options, settings })) {
    if (!alone) store.toDisk();
    store.add(documents);
    counts = addCounts(counts, more);
    seen(counts.rows);
  }
  return reportOf([...formats], counts, first ?? "rows", settings);
}
