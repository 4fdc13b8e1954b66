// One file from a hub to a place named by its checksum. A transfer that breaks off, or is killed, leaves NAME.part, and
// goes on behind its last byte; only bytes with the right checksum get the name. Bytes are written at their own offsets,
// so two processes that fetch the same file do no harm.
import { createHash, type Hash } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";

import { diskFailure } from "../checkpoint/disk.js";
import { UserError } from "../errors.js";
import type { FetchProgress } from "./progress.js";
import type { RemoteFile } from "./repository.js";
import { type Connection, HubUnreachable, reasonOf, request, withRetries } from "./request.js";

export const blobPath = (blobs: string, { hash }: RemoteFile): string => join(blobs, hash);

/** Bytes of a file that still have to come. */
export function missingBytes(blobs: string, file: RemoteFile): number {
  const path = blobPath(blobs, file);
  if (sizeOf(path) === file.bytes) return 0;
  return Math.max(0, file.bytes - (sizeOf(`${path}.part`) ?? 0));
}

/** Fetches `file` from `url` into the folder `blobs`, unless it is there. Errors: UserError for network, disk and checksum. */
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
  const resumed = existsSync(part);
  const handle = await onDisk(part, file, () => open(part, resumed ? "r+" : "w+"));
  try {
    const transfer = { file, url, part, handle, connection, progress };
    let whole = await fill(transfer);
    if (!whole && resumed) {
      // What an earlier process left is damaged.
      await startAnew(transfer);
      whole = await fill(transfer);
    }
    if (!whole) {
      await rm(part, { force: true });
      const { repo, endpoint } = connection;
      throw new UserError(`${repo.given}: what ${endpoint} sends as ${file.path} has another checksum than it states. Try again later.`);
    }
    await onDisk(part, file, () => handle.sync());
  } finally {
    await handle.close();
  }
  await onDisk(path, file, () => rename(part, path)).catch((failure) => {
    // Another process that fetched the same file was first.
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

/** Goes on behind what the part holds, to the end; returns whether the checksum is right. */
async function fill(transfer: Transfer): Promise<boolean> {
  const { file, url, part, handle, connection, progress } = transfer;
  let { at, hash } = await readPart(transfer);
  progress.begin(file, at);
  const once = async (): Promise<void> => {
    if (at === file.bytes) return;
    const response = await request(connection, url, at > 0 ? { range: `bytes=${at}-` } : {});
    if (at > 0 && response.status !== 206) {
      // A server without ranges sends everything again.
      await startAnew(transfer);
      [at, hash] = [0, newHash(file)];
      progress.begin(file, 0);
    }
    try {
      for await (const chunk of response.body ?? []) {
        const piece = (chunk as Uint8Array).subarray(0, file.bytes - at);
        await onDisk(part, file, () => writeAll(handle, piece, at));
        hash.update(piece);
        at += piece.length;
        progress.arrived(piece.length);
      }
    } catch (failure) {
      throw failure instanceof UserError ? failure : new HubUnreachable(connection, reasonOf(failure));
    }
    if (at < file.bytes) throw new HubUnreachable(connection, `${file.path} ended after ${at} of ${file.bytes} bytes`);
  };
  await withRetries(connection, once, () => at);
  return hash.digest("hex") === file.hash;
}

/** How much of the file is there, and the state of its checksum. */
async function readPart(transfer: Transfer): Promise<{ at: number; hash: Hash }> {
  const { file, handle } = transfer;
  const hash = newHash(file);
  const { size } = await handle.stat();
  if (size > file.bytes) {
    await startAnew(transfer);
    return { at: 0, hash };
  }
  const buffer = Buffer.alloc(1 << 20);
  let at = 0;
  while (at < size) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, size - at), at);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
  return { at, hash };
}

const startAnew = ({ handle, file, part }: Transfer): Promise<void> => onDisk(part, file, () => handle.truncate(0));

/** Git's checksum of a file covers a head with its length (git-scm.com, "Git Objects"). */
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
