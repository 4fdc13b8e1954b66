// The old bytes of what a step changes, on the disk before the change begins. A record is a head, the bytes of one file of
// the working copy, and a mark that is written when these have reached the disk: a file whose record has no mark is unchanged.
// Heads and marks are 512 bytes of text.
import { closeSync, constants, existsSync, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { basename, join } from "node:path";

import { diskFailure } from "../checkpoint/disk.js";
import type { SharedMapping } from "../torch/mapping.js";
import { readBytes } from "../torch/tensor.js";

export const UNDO_FILE = "undo.log";

const FRAME_BYTES = 512;
const BUFFER_BYTES = 8 * 2 ** 20;
const MARK = frame({ complete: true });

interface Head {
  step: number;
  file: string;
  bytes: number;
}

export class UndoLog {
  readonly #path: string;
  readonly #file: number;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);

  constructor(folder: string) {
    this.#path = join(folder, UNDO_FILE);
    // Appending: after `clear` the next record is the first byte of the file again.
    this.#file = openSync(this.#path, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND, 0o644);
  }

  /** Keeps the bytes of these files as they are before `step`; they may be changed when it returns. */
  append(step: number, files: SharedMapping[]): void {
    const bytes = files.reduce((sum, each) => sum + each.bytes, 0);
    try {
      for (const { path, bytes, tensor } of files) {
        writeSync(this.#file, frame({ step, file: basename(path), bytes }));
        for (let offset = 0; offset < bytes; offset += BUFFER_BYTES) {
          const chunk = this.#buffer.subarray(0, Math.min(BUFFER_BYTES, bytes - offset));
          readBytes(tensor, offset, chunk);
          for (let done = 0; done < chunk.length; ) done += writeSync(this.#file, chunk, done);
        }
        fsyncSync(this.#file);
        writeSync(this.#file, MARK);
        fsyncSync(this.#file);
      }
    } catch (failure) {
      throw diskFailure(this.#path, bytes, 0, failure);
    }
  }

  clear(): void {
    ftruncateSync(this.#file, 0);
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** Brings the working copy in `folder` back to the end of step `finished`; returns the files that it restored. */
export function rollBack(folder: string, finished: number): string[] {
  const restored: string[] = [];
  const path = join(folder, UNDO_FILE);
  if (!existsSync(path)) return restored;
  const log = openSync(path, "r+");
  try {
    const size = fstatSync(log).size;
    for (let at = 0; at + 2 * FRAME_BYTES <= size; ) {
      const head = readFrame(log, at) as Partial<Head> | null;
      // The log of a step that is finished was not yet emptied.
      if (head?.step !== finished + 1 || !head.file || !head.bytes) break;
      const end = at + FRAME_BYTES + head.bytes;
      if (end + FRAME_BYTES > size || readFrame(log, end)?.complete !== true) break;
      restore(log, at + FRAME_BYTES, join(folder, basename(head.file)), head.bytes);
      restored.push(head.file);
      at = end + FRAME_BYTES;
    }
    ftruncateSync(log, 0);
    fsyncSync(log);
  } finally {
    closeSync(log);
  }
  return restored;
}

function restore(log: number, from: number, path: string, bytes: number): void {
  const buffer = new Uint8Array(BUFFER_BYTES);
  const file = openSync(path, "r+");
  try {
    for (let offset = 0; offset < bytes; ) {
      const count = readSync(log, buffer, 0, Math.min(BUFFER_BYTES, bytes - offset), from + offset);
      for (let done = 0; done < count; ) done += writeSync(file, buffer, done, count - done, offset + done);
      offset += count;
    }
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function frame(content: object): Buffer {
  return Buffer.from(JSON.stringify(content).padEnd(FRAME_BYTES));
}

function readFrame(file: number, at: number): Record<string, unknown> | null {
  const bytes = Buffer.alloc(FRAME_BYTES);
  readSync(file, bytes, 0, FRAME_BYTES, at);
  try {
    return JSON.parse(bytes.toString("utf8")) as Record<string, unknown>;
  } catch {
    return null;
  }
}
