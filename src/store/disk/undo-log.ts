// The old bytes of what a step changes; they are on the disk before the change begins. A record is a head, the bytes of
// one file of the working copy, and a mark, written when the bytes have reached the disk. So a file whose record has no
// mark is unchanged. Heads and marks are 512 bytes of text.
import { closeSync, constants, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { basename, join } from "node:path";

import { diskFailure, writeAll } from "../../checkpoint/files/disk.js";
import { UserError } from "../../errors.js";
import { naming, openForReading, statOf } from "../../read-file.js";
import type { SharedMapping } from "../../torch/mapping.js";
import { readBytes } from "../../torch/tensor.js";

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
    // The file is opened for appending: after `clear`, the next record begins at its first byte again.
    this.#file = openSync(
      this.#path,
      constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND,
      0o644,
    );
  }

  /**
   * Saves the bytes of these files as they are before `step`. They may be changed once it returns. Errors: UserError if
   * the disk is full.
   */
  append(step: number, files: SharedMapping[]): void {
    const bytes = files.reduce((sum, each) => sum + each.bytes, 0);
    try {
      for (const { path, bytes, tensor } of files) {
        writeAll(this.#file, frame({ step, file: basename(path), bytes }));
        for (let offset = 0; offset < bytes; offset += BUFFER_BYTES) {
          const chunk = this.#buffer.subarray(0, Math.min(BUFFER_BYTES, bytes - offset));
          readBytes(tensor, offset, chunk);
          writeAll(this.#file, chunk);
        }
        fsyncSync(this.#file);
        writeAll(this.#file, MARK);
        fsyncSync(this.#file);
      }
    } catch (failure) {
      throw diskFailure(this.#path, bytes, 0, failure);
    }
  }

  clear(): void {
    naming(this.#path, () => ftruncateSync(this.#file, 0));
  }

  close(): void {
    closeSync(this.#file);
  }
}

/**
 * Brings the working copy in `folder` back to the end of step `finished`; returns the files that it restored. Errors:
 * UserError when a record names a file that is not there; nothing is changed then.
 */
export function rollBack(folder: string, finished: number): string[] {
  const path = join(folder, UNDO_FILE);
  if (!statOf(path)) return [];
  const log = openForReading(path, constants.O_RDWR);
  try {
    const records = readRecords(log, finished + 1);
    for (const { file, bytes } of records) checkFile(path, join(folder, file), bytes);
    for (const { file, bytes, from } of records) restore(log, from, join(folder, file), bytes);
    naming(path, () => {
      ftruncateSync(log, 0);
      fsyncSync(log);
    });
    return records.map(({ file }) => file);
  } finally {
    closeSync(log);
  }
}

interface SavedFile extends Head {
  /** Offset of the old bytes in the log. */
  from: number;
}

/** The finished records of `step`. There are none if step `step - 1` ended but the log was not emptied yet. */
function readRecords(log: number, step: number): SavedFile[] {
  const records: SavedFile[] = [];
  const size = fstatSync(log).size;
  for (let at = 0; at + 2 * FRAME_BYTES <= size; ) {
    const head = readFrame(log, at);
    if (!isHead(head) || head.step !== step) break;
    const from = at + FRAME_BYTES;
    const end = from + head.bytes;
    if (end + FRAME_BYTES > size || readFrame(log, end)?.complete !== true) break;
    records.push({ ...head, from });
    at = end + FRAME_BYTES;
  }
  return records;
}

function isHead(head: object | null): head is Head {
  const { file, bytes } = (head ?? {}) as Partial<Head>;
  return (
    typeof file === "string" &&
    file !== "" &&
    basename(file) === file &&
    Number.isSafeInteger(bytes) &&
    (bytes as number) > 0
  );
}

function checkFile(log: string, path: string, bytes: number): void {
  const stats = statOf(path);
  if (stats?.isFile() && stats.size === bytes) return;
  throw new UserError(
    `${log}: has ${bytes} bytes of ${path}, which ${stats?.isFile() ? `has ${stats.size}` : "is no file"}. ` +
      "The working copy is damaged: go on from a checkpoint.",
  );
}

function restore(log: number, from: number, path: string, bytes: number): void {
  const buffer = new Uint8Array(BUFFER_BYTES);
  const file = openSync(path, "r+");
  try {
    for (let offset = 0; offset < bytes; ) {
      const count = readSync(log, buffer, 0, Math.min(BUFFER_BYTES, bytes - offset), from + offset);
      naming(path, () => {
        for (let done = 0; done < count; ) done += writeSync(file, buffer, done, count - done, offset + done);
      });
      offset += count;
    }
    naming(path, () => fsyncSync(file));
  } finally {
    closeSync(file);
  }
}

function frame(content: object): Buffer {
  return Buffer.from(JSON.stringify(content).padEnd(FRAME_BYTES));
}

function readFrame(file: number, at: number): { complete?: unknown } | null {
  const bytes = Buffer.alloc(FRAME_BYTES);
  readSync(file, bytes, 0, FRAME_BYTES, at);
  try {
    const parsed: unknown = JSON.parse(bytes.toString("utf8"));
    return typeof parsed === "object" ? parsed : null;
  } catch {
    return null;
  }
}
