// Writing that must reach the disk. A failure becomes an error that names the file, how much was to be written and how
// much room there is. Checksums are computed while writing, so nothing is read again for them. This file does not
// decide what is written.
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  statfsSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

import { UserError } from "../../errors.js";
import { formatBytes } from "../../format.js";
import { naming } from "../../read-file.js";

/** What a written file holds. */
export interface FileRecord {
  bytes: number;
  /** In hexadecimal. */
  sha256: string;
}

const recordings = new Map<string, Map<string, FileRecord>>();

/**
 * Runs `write`, and returns a record, by name, of every file that `writeDurably` wrote directly into `folder`
 * meanwhile.
 */
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
        writeAll(file, chunk, (count) => (written += count));
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

/** Appends all bytes to an open file. A disk that fills up silently takes some of them before it refuses the rest. */
export function writeAll(file: number, bytes: Uint8Array, wrote: (count: number) => void = () => {}): void {
  for (let done = 0; done < bytes.length; ) {
    const count = writeSync(file, bytes, done, bytes.length - done);
    done += count;
    wrote(count);
  }
}

/** Writes a small file as a whole. */
export function writeFileDurably(path: string, content: string | Uint8Array): void {
  const bytes = Buffer.from(content);
  writeDurably(path, bytes.length, (append) => append(bytes));
}

/** Asks the system to put a folder and every file directly in it on the disk. */
export function syncFolder(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) if (entry.isFile()) sync(join(folder, entry.name));
  sync(folder);
}

/** The same for a single path, such as a folder's list of names after a rename. */
export function sync(path: string): void {
  const opened = openSync(path, "r");
  try {
    naming(path, () => fsyncSync(opened));
  } finally {
    closeSync(opened);
  }
}

/** Turns a system error while writing into a UserError; returns any other failure unchanged. */
export function diskFailure(path: string, bytes: number, written: number, failure: unknown): unknown {
  if (!(failure instanceof Error) || !("errno" in failure)) return failure;
  const { code, message } = failure as NodeJS.ErrnoException;
  const full = isFull(failure);
  return new UserError(
    `${path}: cannot be written: ${REASONS[code ?? ""] ?? message} (${formatBytes(bytes)} needed, ` +
      `${formatBytes(written)} written, ${freeSpace(dirname(path))} free).` +
      (full ? " Free some space or choose another disk." : ""),
    { cause: failure },
  );
}

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EDQUOT: "your disk quota is used up",
  EROFS: "the file system is read-only",
  EACCES: "this user may not write there",
  EPERM: "this user may not write there",
  EISDIR: "it is a folder (expected a file)",
  ENOTDIR: "a file stands where a folder is expected",
  ELOOP: "its links lead in a circle",
  EEXIST: "a file or a link to nowhere has this name",
  ENAMETOOLONG: "its name is too long for the file system",
};

/** Why the system refused, in words if they are known. */
export function reasonOf(failure: unknown): string {
  const { code = "", syscall = "", message } = failure as NodeJS.ErrnoException;
  if (code === "ENOENT" && /^(mkdir|access)$/.test(syscall))
    return "there is no such folder, or nothing new can be made in it";
  return REASONS[code] ?? message;
}

/** The system error behind a failure or its causes; undefined if there is none. */
export function refusalOf(failure: unknown): NodeJS.ErrnoException | undefined {
  if (!(failure instanceof Error)) return undefined;
  return "errno" in failure ? (failure as NodeJS.ErrnoException) : refusalOf(failure.cause);
}

/** Whether the system refused because the disk is full. */
export const isFull = (failure: unknown): boolean =>
  ["ENOSPC", "EDQUOT"].includes((failure as NodeJS.ErrnoException).code ?? "");

/**
 * Makes a folder and its missing parents; returns those that it made, the topmost first. It makes them one at a time,
 * since Node's own way reports every refusal as ENOENT. Throws the system's error.
 */
export function makeFolders(path: string): string[] {
  const missing: string[] = [];
  let existing = resolve(path);
  for (; !existsSync(existing); existing = dirname(existing)) missing.unshift(existing);
  if (!statSync(existing).isDirectory()) throw Object.assign(new Error(`${existing} is a file`), { code: "ENOTDIR" });
  for (const folder of missing) mkdirSync(folder);
  return missing;
}

/** Errors: UserError when the disk of `folder`, which need not exist yet, has no room for `bytes`. */
export function checkFreeSpace(folder: string, bytes: number): void {
  const free = freeBytes(folder);
  if (free >= bytes) return;
  throw new UserError(
    `${folder}: ${formatBytes(bytes)} are needed, but only ${formatBytes(free)} are free on its disk. Free some space or choose another disk.`,
  );
}

/** Free bytes on the disk of `folder`, which need not exist yet; infinite if the file system does not count them. */
export function freeBytes(folder: string): number {
  let existing = resolve(folder);
  while (!existsSync(existing)) existing = dirname(existing);
  const { bavail, bsize, blocks } = statfsSync(existing);
  return blocks === 0 ? Number.POSITIVE_INFINITY : bavail * bsize;
}

function freeSpace(folder: string): string {
  try {
    return formatBytes(freeBytes(folder));
  } catch {
    return "an unknown number of bytes";
  }
}
