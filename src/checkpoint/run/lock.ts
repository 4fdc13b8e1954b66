// One run at a time in a folder: run.lock names the process that writes there, and is made in one move with its
// content. If its process is gone, at most one other can take over: the one that makes run.lock.after-TOKEN, with the
// stale lock's TOKEN, and then moves its own lock into place. Readers need no lock. Limit: a process on another machine
// cannot be seen from here, so its lock is respected.
import { constants, copyFileSync, linkSync, readdirSync, renameSync, rmSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { join } from "node:path";

import { UserError } from "../../errors.js";
import { readRunFile } from "../../read-file.js";
import { reasonOf, writeFileDurably } from "../files/disk.js";
import { type ProcessIdentity, stateOf, thisProcess } from "./process-identity.js";

export const LOCK_FILE = "run.lock";

export interface RunLock {
  /** A note on the lock that a killed run left here. */
  note: string | null;
  release(): void;
}

interface Holder extends ProcessIdentity {
  /** Identifies this lock. */
  token: string;
  /** When it was taken, ISO 8601. */
  since: string;
}

/**
 * Takes the lock of an existing folder. Errors: UserError when another process has it; the system's when it cannot
 * write.
 */
export function takeLock(dir: string): RunLock {
  const mine: Holder = { ...thisProcess(), token: randomUUID(), since: new Date().toISOString() };
  const lock = join(dir, LOCK_FILE);
  const draft = `${lock}.${mine.token}`;
  try {
    writeFileDurably(draft, `${JSON.stringify(mine, null, 2)}\n`);
    for (;;) {
      const stale = readHolder(lock);
      if (stale === null) {
        if (!createAs(draft, lock)) continue;
        return held(dir, mine, null);
      }
      const last = lastAfter(dir, stale);
      if (stateOf(last) !== "gone") throw inUse(dir, last);
      const claim = afterOf(dir, last);
      if (!createAs(draft, claim)) continue;
      // Else a process that read the stale lock long ago could take over from a run that has taken over and ended
      // since.
      if (readHolder(lock)?.token !== stale.token) {
        rmSync(claim, { force: true });
        continue;
      }
      renameSync(draft, lock);
      return held(dir, mine, stale);
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Errors: UserError when a process that may be alive has the lock of `dir`. Takes nothing. */
export function checkUnlocked(dir: string): void {
  const holder = holderOf(dir);
  if (holder) throw inUse(dir, holder);
}

/**
 * Whether a process that may be alive trains in `dir`. Does not wait. Errors: UserError for a lock that cannot be read,
 * even if only not yet.
 */
export const isLocked = (dir: string): boolean => holderOf(dir, 1) !== null;

function holderOf(dir: string, tries = TRIES): Holder | null {
  const holder = readHolder(join(dir, LOCK_FILE), tries);
  const last = holder && lastAfter(dir, holder, tries);
  return last && stateOf(last) !== "gone" ? last : null;
}

const afterOf = (dir: string, { token }: Holder): string => join(dir, `${LOCK_FILE}.after-${token}`);

/**
 * The last process that took over from `holder`, directly or in turn; those before it were killed before they moved
 * their lock.
 */
function lastAfter(dir: string, holder: Holder, tries = TRIES): Holder {
  const next = readHolder(afterOf(dir, holder), tries);
  return next === null ? holder : lastAfter(dir, next, tries);
}

function held(dir: string, mine: Holder, stale: Holder | null): RunLock {
  const lock = join(dir, LOCK_FILE);
  removeLeft(dir, mine);
  const release = (): void => {
    process.off("exit", release);
    if (readHolder(lock)?.token === mine.token) rmSync(lock, { force: true });
  };
  process.on("exit", release);
  const note = stale && `${describe(stale)} was at work in ${dir} and did not end by itself; its lock is taken over`;
  return { note, release };
}

/** Removes what processes left that were killed while they took the lock. */
function removeLeft(dir: string, mine: Holder): void {
  for (const name of readdirSync(dir).filter((each) => each.startsWith(`${LOCK_FILE}.`))) {
    const left = tryRead(join(dir, name));
    if (left && (left.token === mine.token || stateOf(left) === "gone")) rmSync(join(dir, name), { force: true });
  }
}

/** Makes `path` with the content of `draft`, in one move if the file system has hard links; false if it exists. */
function createAs(draft: string, path: string): boolean {
  try {
    linkSync(draft, path);
    return true;
  } catch (failure) {
    const { code } = failure as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"].includes(code ?? "")) throw failure;
  }
  try {
    copyFileSync(draft, path, constants.COPYFILE_EXCL);
    return true;
  } catch (failure) {
    if ((failure as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw failure;
  }
}

const TRIES = 50;
const TRY_MS = 20;

/** The maker of the lock at `path`; null without a lock. Waits for a lock that is still being written. */
function readHolder(path: string, tries = TRIES): Holder | null {
  for (let left = tries; left > 0; left--) {
    const holder = tryRead(path);
    if (holder !== undefined) return holder;
    if (left > 1) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, TRY_MS);
  }
  throw new UserError(
    `${path}: cannot be read (expected the process that trains in this folder). If none does, remove the file.`,
  );
}

/** Null without a file; undefined if it holds no whole lock. */
function tryRead(path: string): Holder | null | undefined {
  try {
    const holder = JSON.parse(readRunFile(path)) as Holder | null;
    // The token becomes part of a file name.
    const isNamed = typeof holder?.token === "string" && /^[\w-]+$/.test(holder.token);
    return isNamed && Number.isSafeInteger(holder.pid) && holder.pid > 0 ? holder : undefined;
  } catch (failure) {
    if (failure instanceof SyntaxError) return undefined;
    if ((failure as NodeJS.ErrnoException).code === "ENOENT") return null;
    const why = failure instanceof UserError ? failure.message : `${path}: cannot be read: ${reasonOf(failure)}.`;
    throw new UserError(`${why} If no run is at work here, remove it.`);
  }
}

const describe = ({ pid, host, since }: Holder): string =>
  `process ${pid} on ${host} (since ${since.slice(0, 19).replace("T", " ")} UTC)`;

function inUse(dir: string, holder: Holder): UserError {
  const remedy =
    stateOf(holder) === "alive"
      ? "Wait for it, stop it, or choose another folder."
      : `It cannot be seen from here: if it has ended, remove ${join(dir, LOCK_FILE)} and start again.`;
  return new UserError(`output_dir: ${dir} is in use by ${describe(holder)}. ${remedy}`);
}
