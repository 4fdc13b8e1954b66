// Downloads one file from a hub to a place named by its checksum. An interrupted transfer leaves NAME.part, and
// continues after its last byte; only bytes with the right checksum get the name. Every byte is written at its own
// offset and none is ever cut off, so several processes may download the same file at once.
import { createHash, type Hash } from "node:crypto";
import { constants, statSync } from "node:fs";
import { type FileHandle, open, rename } from "node:fs/promises";
import { join } from "node:path";

import { diskFailure } from "../checkpoint/files/disk.js";
import { UserError } from "../errors.js";
import type { FetchProgress } from "./progress.js";
import type { RemoteFile } from "./repository.js";
import { type Connection, HubUnreachable, request, withRetries } from "./request.js";

export const blobPath = (blobs: string, { hash }: RemoteFile): string => join(blobs, hash);

/** Number of bytes of a file that are still missing. */
export function missingBytes(blobs: string, file: RemoteFile): number {
  const path = blobPath(blobs, file);
  if (sizeOf(path) === file.bytes) return 0;
  return Math.max(0, file.bytes - (sizeOf(`${path}.part`) ?? 0));
}

/**
 * Downloads `file` from `url` into the folder `blobs`, unless it is there. Errors: UserError for network, disk and
 * checksum.
 */
export async function download(
  file: RemoteFile,
  { url, blobs, connection, progress }: { url: string; blobs: string; connection: Connection; progress: FetchProgress },
): Promise<void> {
  const path = blobPath(blobs, file);
  const part = `${path}.part`;
  if (sizeOf(path) === file.bytes) {
    progress.begin(file, file.bytes);
    return progress.end();
  }
  const handle = await onDisk(part, file, () => open(part, constants.O_RDWR | constants.O_CREAT));
  try {
    const transfer = { file, url, part, handle, connection, progress };
    const left = await readPart(file, handle);
    const none = { at: 0, hash: newHash(file) };
    // If what an earlier process left is damaged, all of it is downloaded again.
    if (!(await fill(transfer, left)) && !(left.at > 0 && (await fill(transfer, none)))) {
      const { repo, endpoint } = connection;
      throw new UserError(
        `${repo.given}: what ${endpoint} sends as ${file.path} has another checksum than it states. Try again later.`,
      );
    }
    await onDisk(part, file, () => handle.sync());
  } finally {
    await handle.close();
  }
  await onDisk(path, file, () => rename(part, path)).catch((failure) => {
    // Another process that downloaded the same file was first.
    if (sizeOf(path) !== file.bytes) throw failure;
  });
  progress.end();
}

interface Transfer {
  file: RemoteFile;
  url: string;
  part: string;
  handle: FileHandle;
  connection: Connection;
  progress: FetchProgress;
}

/** The first `at` bytes of a file, and their checksum so far. */
interface Beginning {
  at: number;
  hash: Hash;
}

/** Continues from a beginning to the end of the file; returns whether the checksum is right. */
async function fill(
  { file, url, part, handle, connection, progress }: Transfer,
  beginning: Beginning,
): Promise<boolean> {
  let { at, hash } = beginning;
  progress.begin(file, at);
  const once = async (): Promise<void> => {
    if (at === file.bytes) return;
    const { status, chunks } = await request(connection, url, { headers: at > 0 ? { range: `bytes=${at}-` } : {} });
    if (at > 0 && status !== 206) {
      // A server without ranges sends everything again.
      [at, hash] = [0, newHash(file)];
      progress.begin(file, 0);
    }
    for await (const chunk of chunks) {
      const piece = chunk.subarray(0, file.bytes - at);
      await onDisk(part, file, () => writeAll(handle, piece, at));
      hash.update(piece);
      at += piece.length;
      progress.arrived(piece.length);
      if (at === file.bytes) return; // whatever a server sends beyond is not read
    }
    throw new HubUnreachable(connection, `${file.path} ended after ${at} of ${file.bytes} bytes`);
  };
  await withRetries(connection, once, () => at);
  return hash.digest("hex") === file.hash;
}

/** What an earlier process left; nothing if it is longer than the whole file. */
async function readPart(file: RemoteFile, handle: FileHandle): Promise<Beginning> {
  const hash = newHash(file);
  const { size } = await handle.stat();
  if (size > file.bytes) {
    await handle.truncate(file.bytes);
    return { at: 0, hash };
  }
  const buffer = Buffer.alloc(1 << 20);
  let at = 0;
  for (let count = -1; count !== 0; at += count) {
    count = (await handle.read(buffer, 0, Math.min(buffer.length, size - at), at)).bytesRead;
    hash.update(buffer.subarray(0, count));
  }
  return { at, hash };
}

/** Git's checksum of a file covers a header with its length (git-scm.com, "Git Objects"). */
const newHash = ({ hash, bytes }: RemoteFile): Hash =>
  hash.length === 64 ? createHash("sha256") : createHash("sha1").update(`blob ${bytes}\0`);

async function writeAll(handle: FileHandle, piece: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < piece.length; ) {
    const { bytesWritten } = await handle.write(piece, done, piece.length - done, at + done);
    done += bytesWritten;
  }
}

async function onDisk<T>(path: string, file: RemoteFile, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (failure) {
    throw diskFailure(path, file.bytes, sizeOf(path) ?? 0, failure);
  }
}

const sizeOf = (path: string): number | undefined => statSync(path, { throwIfNoEntry: false })?.size;
