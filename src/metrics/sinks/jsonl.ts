// metrics.jsonl: a line of JSON per event, handed to the system before `write` returns, so a killed run keeps all its
// lines. A number that is not finite becomes null. A line that cannot be written is dropped whole, with a warning: a
// full disk does not end the run here.
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, readSync, renameSync, rmSync } from "node:fs";
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
  open: ({ dir, startStep, say, lineDue, evaluatesAgain }) =>
    jsonlSink(join(dir, METRICS_FILE), {
      ...{ lineDue, evaluatesAgain, resumeStep: startStep || -1 },
      warn: (message) => say(message, "warning"),
    }),
};

export interface JsonlOptions {
  /**
   * The step from which the run goes on: lines of later steps are dropped, because these steps will be made again; 0
   * begins anew. Without it, lines are appended.
   */
  resumeStep?: number;
  /** Whether `resumeStep` should have a line. If a kill came between the step and its line, a message says so. */
  lineDue?: boolean;
  /** Whether the evaluation and samples after `resumeStep` are made again, so that their lines are dropped. */
  evaluatesAgain?: boolean;
  /** Called once when lines begin to be dropped, and once when they are written again. */
  warn?: (message: string) => void;
}

/** Appends events to the file at `path`, which is made if it is missing. */
export function jsonlSink(path: string, options: JsonlOptions = {}): Sink {
  const { resumeStep, lineDue = false, evaluatesAgain = false, warn = () => {} } = options;
  const kept = resumeStep === undefined ? null : dropLinesAfter(path, resumeStep, evaluatesAgain);
  const file = openForAppending(path);
  let dropped = 0;
  const append = (...events: RunEvent[]): void => file.append(Buffer.from(events.map(lineOf).join("")));
  const write: Sink["write"] = (event) => {
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
  };
  if (resumeStep !== undefined && lineDue && kept !== null) {
    const message = `step ${resumeStep} was made and lasts, but its line is missing: the run was killed, or the disk was full`;
    const told = kept.some(
      ({ kind, step, message: said }) => step === resumeStep && (kind === "step" || said === message),
    );
    if (!told) write({ kind: "message", step: resumeStep, message, level: "warning" });
  }
  return {
    write,
    close: () => {
      try {
        file.close();
      } catch (failure) {
        warn(`${path}: ${whyNot(failure)} Its last lines may be missing.`);
      }
    },
  };
}

/** What a run writes before its first step fits in this many bytes. */
const SAID_BEFORE_BYTES = 1 << 16;

/** Whether the file at `path`, which may be missing, has more than what a run writes before its first step. */
export function tellsOfSteps(path: string): boolean {
  if (!existsSync(path)) return false;
  const file = openSync(path, "r");
  try {
    const bytes = Buffer.alloc(SAID_BEFORE_BYTES);
    const read = readSync(file, bytes, 0, bytes.length, 0);
    const lines = bytes.toString("utf8", 0, read).split("\n").filter(Boolean);
    return read === bytes.length || lines.some((line) => !line.startsWith('{"kind":"message","step":0,'));
  } finally {
    closeSync(file);
  }
}

// JSON.stringify already writes NaN and the infinities as null.
const lineOf = (event: RunEvent): string => visibleText(`${JSON.stringify(event)}\n`);

const temporaryOf = (path: string): string => `${path}.tmp`;

interface Line {
  bytes: Buffer;
  step: number;
  kind?: unknown;
  message?: unknown;
}

/**
 * Keeps the lines up to `step`, in a new file that replaces the old one in one move. Returns them; null without a file.
 */
function dropLinesAfter(path: string, step: number, evaluatesAgain: boolean): Line[] | null {
  const content = orUserError(path, () => readIfThere(path));
  if (content === null) return null;
  const upTo = step <= 0 ? [] : linesUpTo(path, content, step);
  const kept = upTo.filter(
    (line) => !(evaluatesAgain && line.step === step && (line.kind === "eval" || line.kind === "sample")),
  );
  const temporary = temporaryOf(path);
  orUserError(temporary, () => {
    const file = openSync(temporary, "w");
    try {
      writeWhole(file, Buffer.concat(kept.map(({ bytes }) => bytes)));
      fsyncSync(file);
    } catch (failure) {
      rmSync(temporary, { force: true });
      throw failure;
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  });
  return kept;
}

function linesUpTo(path: string, content: Buffer, step: number): Line[] {
  const kept: Line[] = [];
  let line = 1;
  for (let start = 0; start < content.length; line++) {
    const end = content.indexOf(10, start);
    // A last line without a newline was cut short when the run was killed.
    if (end < 0) break;
    const bytes = content.subarray(start, end + 1);
    const event = eventOf(bytes);
    if (event === undefined) {
      throw new UserError(
        `${path}:${line}: no line of metrics (expected a JSON object with a number "step"). ` +
          "Remove the line, or the file.",
      );
    }
    if (event.step <= step) kept.push({ ...event, bytes });
    start = end + 1;
  }
  return kept;
}

function eventOf(line: Buffer): Omit<Line, "bytes"> | undefined {
  try {
    const { step, kind, message } = JSON.parse(line.toString()) as Partial<Record<string, unknown>>;
    return typeof step === "number" ? { step, kind, message } : undefined;
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
