// What rows mean: columns get our names, the first rows tell the format, then each row is read as its kind says
// (conversations/). All errors name the row.
import { UserError } from "../errors.js";
import { meant } from "./conversations/misspelling.js";
import { columnsRead, ROW_KINDS } from "./conversations/registry.js";
import { ROW_FORMATS, type RowFormat } from "./conversations/row-kind.js";
import type { Sample } from "./conversations/sample.js";
import { keyList, type Row } from "./rows.js";

const COLUMN_NAMES = [...new Set(ROW_FORMATS.flatMap(columnsRead))];
const ROWS_LOOKED_AT = 100;

/**
 * The rows with renamed columns: `columns` maps our names to the file's, as {prompt: "question"}. `check` refuses names
 * that no row has; later rows are not checked.
 */
export function renameColumns(rows: Row[], columns: Readonly<Record<string, string>>, check = true): Row[] {
  const wanted = Object.entries(columns);
  if (wanted.length === 0) return rows;
  const found = keysOf(rows);
  for (const [ours, theirs] of check ? wanted : []) {
    if (!COLUMN_NAMES.includes(ours)) {
      throw new UserError(
        `columns: "${ours}" is not a column we read (expected ${list(COLUMN_NAMES)}).${meant(ours, COLUMN_NAMES)}`,
      );
    }
    if (!found.includes(theirs)) {
      throw new UserError(
        `${rows[0].place}: the setting columns takes "${ours}" from a column "${theirs}", which the rows do not have (found ` +
          `${list(found)}).${meant(theirs, found)}`,
      );
    }
  }
  return rows.map(({ value, place }) => {
    const renamed = { ...value };
    for (const [, theirs] of wanted) delete renamed[theirs];
    for (const [ours, theirs] of wanted) if (theirs in value) renamed[ours] = value[theirs];
    return { value: renamed, place };
  });
}

const RENAME = 'Rename them with the setting columns, as in columns: {prompt: "question", completion: "answer"}.';

/** The format that all of the first rows have. Errors: UserError with the keys found and the formats known. */
export function detectFormat(rows: Row[], wanted: RowFormat | "auto"): RowFormat {
  const first = rows.slice(0, ROWS_LOOKED_AT);
  const formats = wanted === "auto" ? ROW_FORMATS : [wanted];
  const format = formats.find((each) => first.every(({ value }) => lacks(value, each) === undefined));
  if (format !== undefined) return format;
  checkAlike(first, formats);
  const keys = formats.flatMap((name) => ROW_KINDS[name].needs.flat());
  const empty = emptyIn(first, keys);
  const expected = formats.map((name) => `${neededWords(name)} for the format ${name}`).join(", ");
  throw new UserError(
    `${rows[0].place}: the first rows have the keys ${list(keysOf(first))} (expected ${expected}). ` +
      (empty === "" ? RENAME : `${empty}Fill it in, or remove the row.`),
  );
}

/** The checked content of one row. Errors: UserError naming the row and the value that is wrong. */
export function readSample(row: Row, format: RowFormat): Sample {
  const lacking = lacks(row.value, format);
  if (lacking === undefined || row.value[lacking] === null) return ROW_KINDS[format].readSample(row);
  throw new UserError(
    `${row.place}: ${lacking} is missing (expected it, as the format is ${format}; found ${list(keysOf([row]))}). Mend the row, or ` +
      "name files of another kind by themselves in train_file.",
  );
}

/** Whether an object is a row of any format. */
export const isSample = (value: Record<string, unknown>): boolean =>
  ROW_FORMATS.some((format) => lacks(value, format) === undefined);

/** A column that a row of this format needs and this row lacks, or has as null. */
function lacks(value: Record<string, unknown>, format: RowFormat): string | undefined {
  const lacking = ROW_KINDS[format].needs.map((keys) =>
    keys.find((key) => value[key] === undefined || value[key] === null),
  );
  return lacking.includes(undefined) ? undefined : lacking[0];
}

const neededWords = (format: RowFormat): string =>
  ROW_KINDS[format].needs.map((keys) => keys.map((key) => `"${key}"`).join(" and ")).join(" or ");

/** Errors: UserError that names a later row which lacks the format of the first row. */
function checkAlike([head, ...others]: Row[], formats: readonly RowFormat[]): void {
  const format = formats.find((each) => lacks(head.value, each) === undefined);
  const other = format && others.find(({ value }) => lacks(value, format) !== undefined);
  if (!other) return;
  throw new UserError(
    `${other.place}: "${lacks(other.value, format)}" is missing or null, but ${head.place} is a row of format ${format} (expected one format in a file). ` +
      "Mend the row, or split the file.",
  );
}

/** A sentence for a message if a needed key is null, since null counts as missing. */
export function emptyIn(rows: Row[], keys: readonly string[]): string {
  for (const { value, place } of rows) {
    const key = keys.find((each) => value[each] === null);
    if (key !== undefined) return `In ${place}, "${key}" is null. `;
  }
  return "";
}

function keysOf(rows: Row[]): string[] {
  return [...new Set(rows.slice(0, ROWS_LOOKED_AT).flatMap(({ value }) => Object.keys(value)))];
}

function list(names: string[]): string {
  return keyList(names) || "none";
}
