// metrics.jsonl: a line of JSON per event, handed to the system before `write` returns, so that a killed run keeps all
// its lines. A number that is not finite is null. A line that cannot be written is dropped whole, and said: no disk ends a run
// here. The sink owns its open file until `close`.
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";

import { UserError } from "../../errors.js";
import { visibleText } from "../../format.js";
import type { RunEvent, Sink } from "../record.js";

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
  const file = orUserError(path, () => openSync(path, "a"));
  let size = fstatSync(file).size;
  let dropped = 0;
  const append = (...events: RunEvent[]): void => {
    const bytes = Buffer.from(events.map(lineOf).join(""));
    // What was cut short and could not be taken back at once.
    if (fstatSync(file).size > size) ftruncateSync(file, size);
    writeWhole(file, bytes);
    size += bytes.length;
  };
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
        closeSync(file);
      } catch (failure) {
        warn(`${path}: ${whyNot(failure)} Its last lines may be missing.`);
      }
    },
  };
}

// JSON.stringify already writes NaN and the infinities as null.
const lineOf = (event: RunEvent): string => visibleText(`${JSON.stringify(event)}\n`);

/** All bytes or none: a line cut short by a full disk is taken back. */
function writeWhole(file: number, bytes: Buffer): void {
  let written = 0;
  try {
    while (written < bytes.length) written += writeSync(file, bytes, written);
  } catch (failure) {
    if (written > 0) ftruncateSync(file, fstatSync(file).size - written);
    throw failure;
  }
}

/** Keeps the lines up to `step`, in a new file that replaces the old one in a single move. */
function dropLinesAfter(path: string, step: number): void {
  const content = orUserError(path, () => readIfThere(path));
  if (content === null) return;
  const kept = step <= 0 ? Buffer.alloc(0) : linesUpTo(path, content, step);
  const temporary = `${path}.tmp`;
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

const FULL: Readonly<Record<string, string>> = { ENOSPC: "the disk is full.", EDQUOT: "your disk quota is used up." };

function whyNot(failure: unknown): string {
  const { code = "", message } = failure as NodeJS.ErrnoException;
  return FULL[code] ?? `it cannot be written (${code || message}).`;
}

const ADVICE: Readonly<Record<string, string>> = {
  ENOSPC: `${FULL.ENOSPC} Free some space, then start again.`,
  EDQUOT: `${FULL.EDQUOT} Free some space, then start again.`,
  EACCES: "this user may not write there. Change its owner or mode, or choose another output_dir.",
  EPERM: "this user may not write there. Change its owner or mode, or choose another output_dir.",
  EROFS: "the file system is read-only. Choose another output_dir.",
  ENOENT: "its folder does not exist. Make it, or choose another output_dir.",
  EISDIR: "a folder has this name (expected a file). Move it away, or choose another output_dir.",
};

function orUserError<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (failure) {
    const advice = ADVICE[(failure as NodeJS.ErrnoException).code ?? ""];
    throw advice === undefined ? failure : new UserError(`${path}: ${advice}`);
  }
}
