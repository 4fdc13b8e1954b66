// Prepared rows on disk, a file for each set of ingredients, under the name that key.ts makes. A file that is being
// written is called .partial, and renamed once it is whole. The folder's size is bounded: the least recently used files
// are removed first. Removing the folder at any time loses nothing but time.
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, renameSync, rmSync, statSync, utimesSync } from "node:fs";
import { join } from "node:path";

import { reasonOf, sync } from "../../checkpoint/files/disk.js";
import type { Document, Documents } from "../documents.js";
import { inMemory } from "../documents.js";
import { DocumentsWriter, openDocuments } from "./documents-file.js";

export interface CacheEntry {
  folder: string;
  key: string;
}

export interface Bounds {
  files: number;
  bytes: number;
}

const BOUNDS: Bounds = { files: 32, bytes: 64 * 2 ** 30 };
const ENDING = ".documents";
/** After this long without a write, a .partial file is no longer being written. */
const STALE_MS = 15 * 60 * 1000;

export const entryPath = ({ folder, key }: CacheEntry): string => join(folder, key + ENDING);

/** The documents in the cache, or undefined. A damaged file is removed, and `note` is called. */
export function openEntry(
  entry: CacheEntry,
  note: (line: string) => void,
): { documents: Documents; about: unknown } | undefined {
  const path = entryPath(entry);
  try {
    if (statSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
    const opened = openDocuments(path);
    const now = new Date();
    attempt(() => utimesSync(path, now, now));
    return opened;
  } catch (failure) {
    note(`${path}: cannot be used: ${reasonOf(failure)}; the rows are prepared anew`);
    attempt(() => rmSync(path, { force: true }));
    return undefined;
  }
}

/** Collects documents: in memory until `toDisk`, then in a file; if the disk refuses, in memory again, with a note. */
export class DocumentStore {
  private readonly held: Document[] = [];
  private readonly partial: string;
  private writer: DocumentsWriter | undefined;

  constructor(
    private readonly entry: CacheEntry | undefined,
    private readonly note: (line: string) => void,
  ) {
    this.partial = entry ? `${entryPath(entry)}.${process.pid}-${randomBytes(4).toString("hex")}.partial` : "";
  }

  add(documents: readonly Document[]): void {
    if (!this.writer) return void this.held.push(...documents);
    this.orInMemory(documents, (writer) => writer.add(documents));
  }

  /** From now on documents go into the cache, beginning with those collected so far. */
  toDisk(): void {
    if (!this.entry || this.writer) return;
    try {
      mkdirSync(this.entry.folder, { recursive: true });
      this.writer = new DocumentsWriter(this.partial);
    } catch (failure) {
      this.refused(failure);
      return;
    }
    const first = this.held.splice(0);
    this.orInMemory(first, (writer) => writer.add(first));
  }

  /** All documents; if they are in a file, it is durable now, and has `about`. */
  finish(about: unknown): Documents {
    let kept: Documents | undefined;
    this.orInMemory([], (writer) => (kept = writer.finish(about)));
    if (!kept || !this.entry) return inMemory(this.held);
    try {
      renameSync(this.partial, entryPath(this.entry));
      sync(this.entry.folder);
      makeRoom(this.entry.folder, entryPath(this.entry));
      this.note(`prepared rows are kept in ${entryPath(this.entry)} for the next start`);
    } catch (failure) {
      this.note(`${this.entry.folder}: ${reasonOf(failure)}; the next start prepares the rows anew`);
    }
    return kept;
  }

  /** Removes an unfinished file. */
  abandon(): void {
    if (!this.writer) return;
    this.writer.close();
    this.writer = undefined;
    attempt(() => rmSync(this.partial, { force: true }));
  }

  /** Writes; if the disk refuses, keeps these documents and all written before in memory. */
  private orInMemory(documents: readonly Document[], write: (writer: DocumentsWriter) => void): void {
    if (!this.writer) return;
    try {
      write(this.writer);
    } catch (failure) {
      if (!(failure instanceof Error && "errno" in failure)) throw failure;
      const written = this.writer.written();
      for (let i = 0; i < written.length; i++) this.held.push(written.document(i));
      this.held.push(...documents);
      this.abandon();
      this.refused(failure);
    }
  }

  private refused(failure: unknown): void {
    this.note(
      `${this.entry?.folder}: ${reasonOf(failure)}, so prepared rows stay in memory and are not kept for the next start`,
    );
  }
}

/** Removes the least recently used files, but not `newest`, and what killed runs left. */
export function makeRoom(folder: string, newest: string, bounds = BOUNDS): void {
  const files = readdirSync(folder)
    .map((name) => join(folder, name))
    .flatMap((path) => {
      const stats = statSync(path, { throwIfNoEntry: false });
      return stats?.isFile() ? [{ path, bytes: stats.size, usedMs: stats.mtimeMs }] : [];
    });
  const stale = files.filter(({ path, usedMs }) => path.endsWith(".partial") && Date.now() - usedMs > STALE_MS);
  const kept = files.filter(({ path }) => path.endsWith(ENDING) && path !== newest);
  let room = { files: bounds.files - 1, bytes: bounds.bytes - (statSync(newest).size ?? 0) };
  const tooMany = kept
    .sort((a, b) => b.usedMs - a.usedMs)
    .filter(({ bytes }) => {
      if (room.files < 1 || room.bytes < bytes) return true;
      room = { files: room.files - 1, bytes: room.bytes - bytes };
      return false;
    });
  for (const { path } of [...stale, ...tooMany]) attempt(() => rmSync(path, { force: true }));
}

/** Does work that another process may have done already, or that the system may refuse. */
function attempt(work: () => void): void {
  try {
    work();
  } catch (failure) {
    if (!(failure instanceof Error && "errno" in failure)) throw failure;
  }
}
