// Reads files that people name. Only ordinary files are read: a pipe or a device could block a reader for ever, or
// never end. Every failure of the system becomes a sentence with the path and the reason.
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, type Stats, statSync } from "node:fs";

import { UserError } from "./errors.js";
import { formatBytes } from "./format.js";

/** The largest file that is read as one text: configuration, tokenizers and indexes are at most a tenth of it. */
const LARGEST_TEXT_BYTES = 400 * 2 ** 20;

/** The largest file that is read among those which a run writes about itself. */
const LARGEST_RUN_FILE_BYTES = 4 * 2 ** 20;

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  ENOTDIR: "it, or a part of its path, is a file (expected a folder)",
  EISDIR: "is a folder (expected a file)",
  ERR_FS_EISDIR: "is a folder (expected a file)",
  ENOSPC: "cannot be written: the disk is full",
  EROFS: "cannot be written: the file system is read-only",
  EACCES: "this user has no permission",
  EPERM: "this user has no permission",
  ENAMETOOLONG: "the path is too long",
  ELOOP: "its links go in a circle",
  ENXIO: "is no ordinary file (expected one)",
  ERR_INVALID_ARG_VALUE: "the path holds a null character, which no path has",
};

/** The system's failure in words, without the path; undefined for any other failure. */
function systemReason(failure: unknown): string | undefined {
  if (!(failure instanceof Error) || !("code" in failure)) return undefined;
  const { code, message, syscall } = failure as NodeJS.ErrnoException;
  return REASONS[code ?? ""] ?? (syscall === undefined ? undefined : message);
}

/** A failure of the system with a file, from any place, as a UserError; undefined for any other failure. */
export function systemFailure(failure: unknown): UserError | undefined {
  const { path, code } = (failure ?? {}) as NodeJS.ErrnoException;
  const reason = typeof path === "string" || code === "ERR_INVALID_ARG_VALUE" ? systemReason(failure) : undefined;
  return reason === undefined
    ? undefined
    : new UserError(`${path === undefined ? "" : `${shownPath(path)}: `}${reason}.`);
}

/** Runs `work` on an open file. The system's failures there name no file, so `path` is added to them. */
export function naming<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (failure) {
    throw failure instanceof Error && "syscall" in failure ? Object.assign(failure, { path }) : failure;
  }
}

/** Runs `read` for `path`; failures of the system become a UserError. */
export function reading<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (failure) {
    const reason = systemReason(failure);
    throw reason === undefined ? failure : new UserError(`${shownPath(path)}: ${reason}.`);
  }
}

/** Opens an ordinary file; the caller closes it. Errors: UserError. */
export const openForReading = (path: string, flags = constants.O_RDONLY): number =>
  reading(path, () => openOrdinary(path, flags));

/** The bytes of an ordinary file that fits memory. Errors: UserError. */
export const readWholeFile = (path: string, largest = LARGEST_TEXT_BYTES): Buffer =>
  reading(path, () => readUpTo(path, largest, constants.O_RDONLY));

/**
 * The text of a file that a run wrote about itself; links are refused. Errors: the system's; UserError for anything but
 * a small ordinary file.
 */
export const readRunFile = (path: string): string =>
  readUpTo(path, LARGEST_RUN_FILE_BYTES, constants.O_RDONLY | constants.O_NOFOLLOW).toString();

function openOrdinary(path: string, flags: number): number {
  // Does not wait for the other end of a pipe.
  const file = openUnlessLink(path, flags | constants.O_NONBLOCK);
  try {
    const stats = fstatSync(file);
    if (stats.isDirectory()) throw new UserError(`${path}: is a folder (expected a file).`);
    if (!stats.isFile()) throw new UserError(`${path}: is ${kindOf(stats)} (expected an ordinary file).`);
    return file;
  } catch (failure) {
    closeSync(file);
    throw failure;
  }
}

/** With O_NOFOLLOW, the system reports the same code for a link and for a circle of links. */
function openUnlessLink(path: string, flags: number): number {
  try {
    return openSync(path, flags);
  } catch (failure) {
    const { code } = failure as NodeJS.ErrnoException;
    if (code === "ELOOP" && flags & constants.O_NOFOLLOW && lstatSync(path).isSymbolicLink())
      throw new UserError(`${path}: is a link, which is not followed (expected an ordinary file).`);
    throw failure;
  }
}

function readUpTo(path: string, largest: number, flags: number): Buffer {
  const file = openOrdinary(path, flags);
  try {
    const { size } = fstatSync(file);
    if (size > largest) {
      throw new UserError(
        `${path}: has ${formatBytes(size)} (expected at most ${formatBytes(largest)}). This is no file of its kind.`,
      );
    }
    return readFileSync(file);
  } finally {
    closeSync(file);
  }
}

/** What is at `path`; undefined if nothing is or can be there. Errors: UserError if access is denied. */
export function statOf(path: string): Stats | undefined {
  return reading(path, () => {
    try {
      return statSync(path, { throwIfNoEntry: false });
    } catch (failure) {
      if ((failure as NodeJS.ErrnoException).code === "ENOTDIR") return undefined;
      throw failure;
    }
  });
}

function kindOf(stats: Stats): string {
  if (stats.isFIFO()) return "a pipe";
  if (stats.isSocket()) return "a socket";
  return stats.isCharacterDevice() || stats.isBlockDevice() ? "a device" : "of another kind";
}

/** A path for a message, cut if it is long. */
const shownPath = (path: string): string => (path.length > 300 ? `${path.slice(0, 300)}...` : path);
