// metrics.jsonl: a line of JSON per event, handed to the system before `write` returns, so that a killed run keeps all
// its lines. A number that is not finite is null. A line that cannot be written is dropped whole, and said: no disk ends a run
// here.
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

import { UserError } from "../../errors.js";
import { visibleText } from "../../format.js";
import type { RunEvent, Sink } from "../record.js";
import { openForAppending, orUserError, whyNot, writeWhole } from "./append.js";
import type { SinkKind } from "./sink.js";

export const METRICS_FILE = "metrics.jsonl";

export const jsonlKind: SinkKind = {
  name: "jsonl",
  about: `a line of JSON for each event, in ${METRICS_FILE}`,
  always: true,
  owns: (name) => name === METRICS_FILE || name === temporaryOf(METRICS_FILE),
  open: ({ dir, startStep, warn }) => jsonlSink(join(dir, METRICS_FILE), { resumeStep: startStep || -1, warn }),
};

export interface JsonlOptions {
  /**
   * The step that the run goes on from: lines of later steps are dropped, for they will be run again; 0 begins anew.
   * Without it, lines are added to what is there.
   */
  resumeStep?: number;
  /** Told once when lines begin to be dropped, and once when they are written again. */
  warn?: (message: string) => void;
}

/** Adds events to the file at `path`, which is made when missing. */
export function jsonlSink(path: string, { resumeStep, warn = () => {} }: JsonlOptions = {}): Sink {
  if (resumeStep !== undefined) dropLinesAfter(path, resumeStep);
  const file = openForAppending(path);
  let dropped = 0;
  const append = (...events: RunEvent[]): void => file.append(Buffer.from(events.map(lineOf).join("")));
  return {
    write: (event) => {
      const missing = `${dropped} ${dropped === 1 ? "line" : "lines"}`;
      const gap: RunEvent = {
        kind: "message",
        step: event.step,
        message: `${missing} could not be written here`,
        level: "warning",
      };
      try {
        append(...(dropped > 0 ? [gap] : []), event);
        if (dropped > 0) warn(`${path} is written again; ${missing} could not be written`);
        dropped = 0;
      } catch (failure) {
        if (dropped++ === 0)
          warn(`${path}: ${whyNot(failure)} Training goes on; lines are dropped until it can be written.`);
      }
    },
    close: () => {
      try {
        file.close();
      } catch (failure) {
        warn(`${path}: ${whyNot(failure)} Its last lines may be missing.`);
      }
    },
  };
}

// JSON.stringify already writes NaN and the infinities as null.
const lineOf = (event: RunEvent): string => visibleText(`${JSON.stringify(event)}\n`);

const temporaryOf = (path: string): string => `${path}.tmp`;

/** Keeps the lines up to `step`, in a new file that replaces the old one in a single move. */
function dropLinesAfter(path: string, step: number): void {
  const content = orUserError(path, () => readIfThere(path));
  if (content === null) return;
  const kept = step <= 0 ? Buffer.alloc(0) : linesUpTo(path, content, step);
  const temporary = temporaryOf(path);
  orUserError(temporary, () => {
    const file = openSync(temporary, "w");
    try {
      writeWhole(file, kept);
      fsyncSync(file);
    } catch (failure) {
      rmSync(temporary, { force: true });
      throw failure;
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  });
}

function linesUpTo(path: string, content: Buffer, step: number): Buffer {
  const kept: Buffer[] = [];
  let line = 1;
  for (let start = 0; start < content.length; line++) {
    const end = content.indexOf(10, start);
    // A last line without its newline was cut short when the run was killed.
    if (end < 0) break;
    const bytes = content.subarray(start, end + 1);
    const at = stepOf(bytes);
    if (at === undefined) {
      throw new UserError(
        `${path}:${line}: no line of metrics (expected a JSON object with a number "step"). ` +
          "Remove the line, or the file.",
      );
    }
    if (at <= step) kept.push(bytes);
    start = end + 1;
  }
  return Buffer.concat(kept);
}

function stepOf(line: Buffer): number | undefined {
  try {
    const { step } = JSON.parse(line.toString()) as { step?: unknown };
    return typeof step === "number" ? step : undefined;
  } catch {
    return undefined;
  }
}

function readIfThere(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch (failure) {
    if ((failure as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw failure;
  }
}
