// From sources to one stream of rows: names become files, the first rows of each source tell what its rows hold,
// columns get our names, and several sources are mixed. Notes say what was found.
import { UserError } from "../../errors.js";
import { columnsRead, unreadColumns } from "../conversations/registry.js";
import { detectFormat, renameColumns } from "../conversation.js";
import type { RowFormat } from "../conversations/row-kind.js";
import { openGiven } from "../formats/given-rows.js";
import { openFile, type OpenFile } from "../formats/open-file.js";
import type { Row } from "../rows.js";
import { filesOf } from "./files.js";
import { firstOf, isMixed, mixed } from "./mix.js";
import type { Source } from "./source.js";

export interface SourceSettings {
  /** What rows hold, unless a source says it. */
  format: RowFormat | "auto";
  /** The files' columns by our names, unless a source has its own. */
  columns: Readonly<Record<string, string>>;
  /** Seed of the order in which weighted sources are mixed. */
  seed: number;
}

/** Rows of one source, with our names of columns; `readSample(row, format)` reads each. */
export interface RowBatch {
  rows: Row[];
  format: RowFormat;
}

export interface OpenSources {
  sources: readonly Source[];
  /** All files that are read, in order; empty for rows that a program gives. The cache uses their contents. */
  files: readonly OpenFile[];
  /** What rows hold, for each source. */
  formats: readonly RowFormat[];
  /** What was found out without being asked for, one line each. */
  notes: readonly string[];
  /** Reads the rows; each call begins at the first row, with the same order. */
  batches(): AsyncIterable<RowBatch>;
  /** Number of rows of each source that the last call of `batches` took. */
  rowsTaken(): number[];
}

/**
 * Opens sources from `parseSources`. Errors: UserError for files and for the first rows; later rows are checked as they
 * come.
 */
export async function openSources(sources: readonly Source[], settings: SourceSettings): Promise<OpenSources> {
  const opened: OpenedSource[] = [];
  for (const source of sources) opened.push(await openSource(source, await openFiles(source), settings));
  return oneStream(opened, settings);
}

/** The same for rows that a program gives; `name` is their name in messages. */
export async function openGivenRows(
  rows: readonly unknown[],
  name: string,
  settings: SourceSettings,
): Promise<OpenSources> {
  if (rows.length === 0) throw new UserError(`${name}: there is no row (expected at least one).`);
  const opened = await openSource({ file: name }, [openGiven(rows, name)], settings);
  return { ...oneStream([opened], settings), files: [] };
}

function oneStream(opened: readonly OpenedSource[], settings: SourceSettings): OpenSources {
  const sources = opened.map(({ source }) => source);
  let taken = opened.map(() => 0);
  return {
    sources,
    files: opened.flatMap(({ files }) => files),
    formats: opened.map(({ format }) => format),
    notes: opened.map(({ note }) => note),
    batches() {
      taken = opened.map(() => 0);
      const streams = opened.map(({ source, rows }) => ({ weight: source.weight, items: rows() }));
      const batches = async function* (): AsyncGenerator<RowBatch> {
        for await (const [batch, i] of mixed(streams, settings.seed)) {
          const { columns, format } = opened[i];
          taken[i] += batch.length;
          yield { rows: renameColumns(batch, columns, false), format };
        }
      };
      return isMixed(sources) ? joined(batches()) : batches();
    },
    rowsTaken: () => [...taken],
  };
}

const ROWS_AT_ONCE = 512;

/** Drawn rows come in small batches; joins consecutive ones of the same format. */
async function* joined(batches: AsyncIterable<RowBatch>): AsyncGenerator<RowBatch> {
  let held: RowBatch | undefined;
  for await (const { rows, format } of batches) {
    if (held && (held.format !== format || held.rows.length >= ROWS_AT_ONCE)) {
      yield held;
      held = undefined;
    }
    if (held) held.rows.push(...rows);
    else held = { rows: [...rows], format };
  }
  if (held) yield held;
}

interface OpenedSource {
  source: Source;
  files: OpenFile[];
  format: RowFormat;
  columns: Readonly<Record<string, string>>;
  note: string;
  rows(): AsyncIterable<Row[]>;
}

async function openSource(source: Source, files: OpenFile[], settings: SourceSettings): Promise<OpenedSource> {
  const rows = (): AsyncIterable<Row[]> => rowsOfSource(source, files);
  const columns = source.columns ?? settings.columns;
  const first = await firstRows(rows());
  if (first.length === 0) throw noRows(source);
  const wanted = (source.format ?? settings.format) as RowFormat | "auto";
  const renamed = renameColumns(first, columns);
  const format = detectFormat(renamed, wanted);
  return { source, files, format, columns, note: noteOf(source, files, format, renamed[0]), rows };
}

async function openFiles(source: Source): Promise<OpenFile[]> {
  const files: OpenFile[] = [];
  for (const path of await filesOf(source)) files.push(await openFile(path, source.file_format));
  return files;
}

function rowsOfSource({ rows }: Source, files: readonly OpenFile[]): AsyncIterable<Row[]> {
  return rows === undefined ? rowsOfAll(files) : firstOf(rowsOfAll(files), rows);
}

async function* rowsOfAll(files: readonly OpenFile[]): AsyncGenerator<Row[]> {
  for (const file of files) yield* file.rows();
}

const noRows = ({ file }: Source): UserError => new UserError(`${file}: the file has no rows (expected at least one).`);

async function firstRows(batches: AsyncIterable<Row[]>): Promise<Row[]> {
  for await (const rows of batches) return rows;
  return [];
}

function noteOf({ file }: Source, files: readonly OpenFile[], format: RowFormat, { value }: Row): string {
  const kinds = [
    ...new Set(files.map((each) => each.format.name + (each.compression ? ` in ${each.compression}` : ""))),
  ];
  const count = files.length === 1 ? "" : `${files.length} files, `;
  const unread = unreadColumns(value, format);
  const read = Object.keys(value).filter((key) => columnsRead(format).includes(key) && !unread.includes(key));
  return `${file}: ${count}${kinds.join(" and ")}, rows of format ${format} (${read.join(", ")})`;
}

/** All rows of the sources in order, or the first `atMost`; for code that needs them at once. Errors: UserError. */
export async function readAllRows(sources: readonly Source[], atMost = Number.POSITIVE_INFINITY): Promise<Row[]> {
  const all: Row[] = [];
  for (const source of sources) {
    const opened = await openFiles(source);
    for await (const rows of firstOf(rowsOfSource(source, opened), atMost - all.length))
      all.push(...renameColumns(rows, source.columns ?? {}, false));
    if (all.length === 0) throw noRows(source);
    if (all.length >= atMost) break;
  }
  return all;
}
