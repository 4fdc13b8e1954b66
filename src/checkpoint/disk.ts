// Writing that must reach the disk, and what went wrong when it does not: the failure names the file, how much was to
// be written and how much room there is. Checksums are taken on the way, so that nothing is read again for them. Nothing
// here decides what is written.
import { createHash } from "node:crypto";
import { closeSync, existsSync, fsyncSync, openSync, readdirSync, statfsSync, writeSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

import { UserError } from "../errors.js";
import { formatBytes } from "../format.js";

/** What a file that was written holds. */
export interface FileRecord {
  bytes: number;
  /** In hexadecimal. */
  sha256: string;
}

const recordings = new Map<string, Map<string, FileRecord>>();

/** Runs `write` and returns a record, by name, of every file that `writeDurably` put directly into `folder` meanwhile. */
export function recordWrites(folder: string, write: () => void): Map<string, FileRecord> {
  const records = new Map<string, FileRecord>();
  recordings.set(folder, records);
  try {
    write();
    return records;
  } finally {
    recordings.delete(folder);
  }
}

/** Creates or empties the file at `path` and hands `fill` a function that appends `bytes` bytes in all. */
export function writeDurably(path: string, bytes: number, fill: (append: (chunk: Uint8Array) => void) => void): void {
  let written = 0;
  const records = recordings.get(dirname(path));
  const hash = records && createHash("sha256");
  try {
    const file = openSync(path, "w");
    try {
      fill((chunk) => {
        hash?.update(chunk);
        // A disk that fills up takes part of a chunk before it refuses the rest.
        for (let done = 0; done < chunk.length; ) {
          const count = writeSync(file, chunk, done, chunk.length - done);
          done += count;
          written += count;
        }
      });
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  } catch (failure) {
    throw diskFailure(path, bytes, written, failure);
  }
  if (hash) records?.set(basename(path), { bytes: written, sha256: hash.digest("hex") });
}

/** Writes a small file whole. */
export function writeFileDurably(path: string, content: string | Uint8Array): void {
  const bytes = Buffer.from(content);
  writeDurably(path, bytes.length, (append) => append(bytes));
}

/** Asks the system to put a folder, with every file directly in it, on the disk. */
export function syncFolder(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) if (entry.isFile()) sync(join(folder, entry.name));
  sync(folder);
}

/** As `syncFolder`, for the list of names alone: after a rename. */
export function sync(path: string): void {
  const opened = openSync(path, "r");
  try {
    fsyncSync(opened);
  } finally {
    closeSync(opened);
  }
}

/** A failure of the system while writing as a UserError; any other is returned as it is. */
export function diskFailure(path: string, bytes: number, written: number, failure: unknown): unknown {
  if (!(failure instanceof Error) || !("errno" in failure)) return failure;
  const { code, message } = failure as NodeJS.ErrnoException;
  const full = code === "ENOSPC" || code === "EDQUOT";
  return new UserError(
    `${path}: cannot be written: ${full ? "the disk is full" : message} (${formatBytes(bytes)} needed, ` +
      `${formatBytes(written)} written, ${freeSpace(dirname(path))} free).` +
      (full ? " Free some space or choose another disk." : ""),
  );
}

/** Throws a UserError when the disk of `folder`, which need not exist yet, has no room for `bytes`. */
export function checkFreeSpace(folder: string, bytes: number): void {
  let existing = resolve(folder);
  while (!existsSync(existing)) existing = dirname(existing);
  const free = freeBytes(existing);
  if (free >= bytes) return;
  throw new UserError(
    `${folder}: ${formatBytes(bytes)} are needed, but only ${formatBytes(free)} are free on its disk. Free some space or choose another disk.`,
  );
}

function freeBytes(folder: string): number {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}

function freeSpace(folder: string): string {
  try {
    return formatBytes(freeBytes(folder));
  } catch {
    return "an unknown number of bytes";
  }
}
