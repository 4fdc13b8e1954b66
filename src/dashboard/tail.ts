// New lines of metrics.jsonl: whole lines from an offset on. Keeps nothing between calls. A last line that is half
// written is left for the next call; a line that is not an event is counted, and the rest is read. A file that was
// replaced (the run continued from an earlier step, or began again) is read from its beginning, and the piece says so.
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, readSync } from "node:fs";

import { openForReading } from "../read-file.js";
import { isEvent } from "./event-shape.js";

/** How far a reader has read, as the last piece said. */
export interface Place {
  /** Identifies the file that was read and its bytes before `offset`; empty if none was read yet. */
  file: string;
  offset: number;
}

export interface Piece extends Place {
  events: { kind: string; step: number }[];
  /** Number of whole lines in this piece. */
  lines: number;
  /** The numbers, from 1, of lines that are not events. */
  broken: number[];
  /** The reader has to forget what it has: this piece is the beginning of the file. */
  restarted: boolean;
  /** More lines can be read at once. */
  more: boolean;
}

export const PIECE_BYTES = 4 * 2 ** 20;
const NEWLINE = 10;
const MARK_BYTES = 4096;

/** Links are refused, so that nothing outside the run's folder is read. Errors: UserError. */
export function readPiece(path: string, place: Place, pieceBytes = PIECE_BYTES): Piece {
  const opened = openForReading(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { ino, size } = fstatSync(opened);
    const nameAt = (offset: number): string => `${ino}-${markBefore(opened, offset)}`;
    const goesOn = place.offset <= size && place.file === nameAt(place.offset);
    const offset = goesOn ? place.offset : 0;
    const bytes = Buffer.alloc(Math.min(pieceBytes, size - offset));
    const filled = bytes.subarray(0, readSync(opened, bytes, 0, bytes.length, offset));
    const end = filled.lastIndexOf(NEWLINE) + 1;
    // Longer than any event: what was read of it counts as a broken line.
    const isEndless = end === 0 && filled.length === pieceBytes;
    const whole = isEndless ? filled : filled.subarray(0, end);
    const next = offset + whole.length;
    const more = next < size && filled.length === pieceBytes;
    return { ...eventsIn(whole), file: nameAt(next), offset: next, restarted: !goesOn && place.file !== "", more };
  } finally {
    closeSync(opened);
  }
}

/**
 * Detects a new file with the inode number of a removed one, which many file systems reuse: its times and losses
 * differ.
 */
function markBefore(file: number, offset: number): string {
  const bytes = Buffer.alloc(Math.min(MARK_BYTES, offset));
  readSync(file, bytes, 0, bytes.length, offset - bytes.length);
  return createHash("sha256").update(bytes).digest("hex").slice(0, 16);
}

function eventsIn(bytes: Buffer): Pick<Piece, "events" | "lines" | "broken"> {
  const lines = bytes.length === 0 ? [] : bytes.toString().replace(/\n$/, "").split("\n");
  const events: Piece["events"] = [];
  const broken: number[] = [];
  for (const [i, line] of lines.entries()) {
    const event = eventOf(line);
    if (event === null) broken.push(i + 1);
    else events.push(event);
  }
  return { events, lines: lines.length, broken };
}

function eventOf(line: string): Piece["events"][number] | null {
  try {
    const event: unknown = JSON.parse(line);
    return isEvent(event) ? event : null;
  } catch {
    return null;
  }
}
