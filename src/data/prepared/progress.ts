// Shows the preparation of rows: on a terminal as one line, rewritten once a second at most; elsewhere as a line every
// half minute. Nothing is shown if it takes only a moment. Writes only to the given output.
import { formatCount, formatDuration } from "../../format.js";
import { canRedraw, type Output, writeRaw } from "../../metrics/output.js";

export interface RowProgress {
  /** `rows` rows are prepared so far; `share` is their share of all, if it is known. */
  at(rows: number, share: number | undefined): void;
  close(): void;
}

const CLEAR_LINE = "\r\x1b[2K";
const BAR = 24;
const LINE_EVERY_MS = 30_000;

export function rowProgress(
  out: Output,
  now: () => number = () => performance.now(),
  env: Readonly<Record<string, string | undefined>> = process.env,
): RowProgress {
  const redraw = canRedraw(out, env);
  const startedMs = now();
  let shownMs = startedMs;
  let drawn = false;
  const line = (rows: number, share: number | undefined): string => {
    const ms = now() - startedMs;
    const speed = `${Math.round((1000 * rows) / Math.max(1, ms))} rows/s`;
    if (share === undefined || share <= 0) return `preparing rows: ${formatCount(rows)}  ${speed}`;
    const full = Math.round(BAR * Math.min(1, share));
    const bar = redraw ? `[${"#".repeat(full)}${".".repeat(BAR - full)}] ` : "";
    const left = formatDuration((ms * (1 - share)) / share);
    return `preparing rows: ${bar}${Math.floor(100 * share)} %  ${formatCount(rows)}  ${speed}  left ${left}`;
  };
  return {
    at: (rows, share) => {
      if (now() - shownMs < (redraw ? 1000 : LINE_EVERY_MS)) return;
      shownMs = now();
      drawn = true;
      if (redraw) writeRaw(out, CLEAR_LINE + line(rows, share).slice(0, (out.columns || 80) - 1));
      else out.write(`${line(rows, share)}\n`);
    },
    close: () => {
      if (redraw && drawn) writeRaw(out, CLEAR_LINE);
    },
  };
}
