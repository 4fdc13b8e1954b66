// Rows and their summary as lines for people. On a terminal with colours, trained tokens are green and special tokens
// dim; elsewhere, trained parts are between « and ».
import { formatCount, formatNumberOf, formatTable, visibleText } from "../../format.js";
import type { DataReport } from "../make-documents.js";
import { quoted } from "../limits.js";
import type { ShownRow } from "./shown-rows.js";
import type { RowsSummary } from "./summary.js";
import { markedText, type TokenText } from "./token-text.js";

const GREEN = "\x1b[32m";
const DIM = "\x1b[2m";
const PLAIN = "\x1b[0m";
/** Tokens that are shown of a long row, at its beginning and its end. */
const HEAD = 600;
const TAIL = 200;
const BAR = 40;
/** max_length below 2^4 gets no line. */
const SHORTEST = 4;

export const rowTitle = ({ row, place, tokens, trainedTokens, cutTokens, documents }: ShownRow): string =>
  `row ${row} (${place}): ${numbers(tokens)} tokens, ${numbers(trainedTokens)} trained` +
  (cutTokens > 0 ? `, ${numbers(cutTokens)} more cut off at max_length` : "") +
  (documents > 1 ? `, split into ${documents}` : "");

/** The text of a row's tokens, a long one without its middle; safe to print on a terminal. */
export function rowText({ tokens, texts }: ShownRow, color: boolean): string {
  const show = color ? coloured : (some: readonly TokenText[]) => visibleText(markedText(some));
  if (tokens <= HEAD + TAIL) return show(texts());
  const left = numbers(tokens - HEAD - TAIL);
  return `${show(texts(0, HEAD))}\n[... ${left} tokens ...]\n${show(texts(tokens - TAIL))}`;
}

function coloured(texts: readonly TokenText[]): string {
  return texts
    .map(({ text, trained, special }) => {
      const style = `${special ? DIM : ""}${trained ? GREEN : ""}`;
      return style === "" ? visibleText(text) : `${style}${visibleText(text)}${PLAIN}`;
    })
    .join("");
}

export interface Summarized {
  file: string;
  report: DataReport;
  summary: RowsSummary;
  max_length: number;
  /** The text of a token; a special token's name. */
  tokenName(id: number): string;
  /** What the files are, one line per source. */
  found: readonly string[];
  notes: readonly string[];
}

export function summaryLines({ file, report, summary, max_length, tokenName, found, notes }: Summarized): string[] {
  const { formats, rows, tokens, trainedShare, truncated, split, dropped } = report;
  const { median, most95, longest, packs, duplicates, firstDuplicate } = summary;
  const ends = summary.ends.slice(0, 4).map(([id, times]) => `${tokenName(id)} ${formatNumberOf(times, "time")}`);
  const others = summary.ends.length > 4 ? `, and ${numbers(summary.ends.length - 4)} other tokens` : "";
  return [
    `${file}: ${formatNumberOf(rows, "row")} of format ${formats.join(" and ")}, ${formatCount(tokens)} tokens, ${percent(trainedShare)} trained`,
    `max_length ${max_length}: ${formatNumberOf(truncated, "row")} cut, ${numbers(split)} split, ${numbers(dropped)} dropped with nothing to train`,
    `documents: median ${numbers(median)} tokens, 95 % up to ${numbers(most95)}, longest ${numbers(longest)}; the longest row has ${numbers(report.lengths.longest)}`,
    ...(packs
      ? [`packing: ${formatNumberOf(packs.count, "pack")} of ${max_length} tokens, ${percent(packs.filled)} full`]
      : []),
    `trained parts end with: ${ends.join(", ") || "nothing: all are cut"}${others}`,
    firstDuplicate
      ? `duplicates: ${formatNumberOf(duplicates, "document")} ${duplicates === 1 ? "is" : "are"} as an earlier one; the first is ${firstDuplicate.join(", as ")}`
      : "duplicates: none",
    `columns that are not used: ${unused(report) || "none"}`,
    ...found.map((line) => `rows: ${line}`),
    ...notes.map((note) => `note: ${note}`),
    "",
    ...histogram(report),
    "",
    ...costs(report),
  ];
}

function histogram({ lengths: { rows } }: DataReport): string[] {
  const most = Math.max(...rows);
  const first = rows.findIndex((count) => count > 0);
  return [
    "tokens of a row, uncut",
    ...rows.slice(first).map((count, i) => {
      const k = first + i;
      const range = `${k === 0 ? 1 : 2 ** (k - 1) + 1} to ${2 ** k}`;
      return `${range.padStart(18)}  ${"#".repeat(Math.ceil((BAR * count) / most)).padEnd(BAR)}  ${numbers(count)}`;
    }),
  ];
}

/** Costs of max_length, from the length at which nothing is cut down to one at which most is. */
function costs({ formats, rows, lengths }: DataReport): string[] {
  if (formats.every((format) => format === "text")) return ["no max_length costs tokens: longer texts are split"];
  const cutAt = (k: number): number => lengths.rows.slice(k + 1).reduce((sum, count) => sum + count, 0);
  const top = lengths.rows.length - 1;
  const shown = Array.from({ length: 6 }, (_, i) => top - 5 + i).filter((k) => k >= Math.min(top, SHORTEST));
  return [
    "what a max_length costs",
    ...formatTable(
      ["max_length", "rows cut", "tokens lost", "trained ones", "rows with none left"],
      shown.map((k) => [
        String(2 ** k),
        `${numbers(cutAt(k))} (${percent(cutAt(k) / rows)})`,
        numbers(lengths.lost[k] ?? 0),
        numbers(lengths.trainedLost[k] ?? 0),
        numbers(lengths.emptied[k] ?? 0),
      ]),
    ).split("\n"),
  ];
}

const unused = ({ unusedColumns }: DataReport): string =>
  Object.entries(unusedColumns)
    .map(([name, rows]) => `${quoted(name)} (${formatNumberOf(rows, "row")})`)
    .join(", ");

const numbers = (count: number): string => count.toLocaleString("en-US");
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
