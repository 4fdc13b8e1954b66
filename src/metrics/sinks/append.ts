// A file that only grows, by whole pieces: a piece that cannot be written (a full disk) leaves nothing behind, so
// readers never find half of one. Owns its open file until `close`.
import { closeSync, fstatSync, ftruncateSync, openSync, writeSync } from "node:fs";

import { UserError } from "../../errors.js";

export interface AppendedFile {
  /** Writes all of the bytes or none, before it returns. Throws the system's error. */
  append(bytes: Uint8Array): void;
  close(): void;
}

/** Makes the file if it is missing. Errors: UserError. */
export function openForAppending(path: string): AppendedFile {
  const file = orUserError(path, () => openSync(path, "a"));
  let size = fstatSync(file).size;
  return {
    append: (bytes) => {
      // Removes an incomplete piece that could not be removed at once.
      if (fstatSync(file).size > size) ftruncateSync(file, size);
      writeWhole(file, bytes);
      size += bytes.length;
    },
    close: () => closeSync(file),
  };
}

/** Writes all bytes or none: a piece that a full disk cut short is removed. */
export function writeWhole(file: number, bytes: Uint8Array): void {
  let written = 0;
  try {
    while (written < bytes.length) written += writeSync(file, bytes, written);
  } catch (failure) {
    if (written > 0) ftruncateSync(file, fstatSync(file).size - written);
    throw failure;
  }
}

const FULL: Readonly<Record<string, string>> = { ENOSPC: "the disk is full.", EDQUOT: "your disk quota is used up." };

/** Why a file could not be written, as a sentence. */
export function whyNot(failure: unknown): string {
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

/** Returns the result of `action`; turns a system error into a UserError that says what to do. */
export function orUserError<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (failure) {
    const advice = ADVICE[(failure as NodeJS.ErrnoException).code ?? ""];
    throw advice === undefined ? failure : new UserError(`${path}: ${advice}`);
  }
}
