// Checksums of files. Many bytes are hashed by several threads, a file each, while this one waits. For a large model
// that saves half of the time on two cores, most of it on sixteen. Reads through a buffer of 1 MiB; owns its threads.
import { createHash, type Hash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { MessageChannel, receiveMessageOnPort, Worker } from "node:worker_threads";

/** "git" is the SHA-1 of a blob as git computes it, with its length in front (git-scm.com, "Git Objects"). */
export type Checksum = "sha256" | "git";

export interface HashedFile {
  path: string;
  kind: Checksum;
}

const hashOf = (kind: Checksum, bytes: number): Hash =>
  kind === "sha256" ? createHash("sha256") : createHash("sha1").update(`blob ${bytes}\0`);

/** For fewer bytes, starting threads takes longer than they save. */
const FEW_BYTES = 256 * 2 ** 20;
const MOST_THREADS = 8;

/** The checksums in hexadecimal, in order; for a file that cannot be read, `{ failure }` with the system's message. */
export function hashFiles(files: HashedFile[]): (string | { failure: string })[] {
  const sizes = files.map(({ path }) => statSync(path, { throwIfNoEntry: false })?.size ?? 0);
  const threads = Math.min(files.length, availableParallelism(), MOST_THREADS);
  const bytes = sizes.reduce((sum, each) => sum + each, 0);
  if (threads < 2 || bytes < FEW_BYTES) return files.map(hashOrFailure);
  // Large files go first, so that no thread is left with one at the end.
  const order = files.map((_, i) => i).sort((a, b) => sizes[b] - sizes[a]);
  return hashByThreads(files, order, threads);
}

/** The checksum of one file. Throws the system's errors. */
export function hashFile({ path, kind }: HashedFile): string {
  const file = openSync(path, "r");
  try {
    const hash = hashOf(kind, fstatSync(file).size);
    const buffer = Buffer.allocUnsafe(1 << 20);
    for (let count = readSync(file, buffer); count > 0; count = readSync(file, buffer))
      hash.update(buffer.subarray(0, count));
    return hash.digest("hex");
  } finally {
    closeSync(file);
  }
}

export function hashOrFailure(file: HashedFile): string | { failure: string } {
  try {
    return hashFile(file);
  } catch (failure) {
    return { failure: (failure as Error).message };
  }
}

function hashByThreads(files: HashedFile[], order: number[], threads: number): (string | { failure: string })[] {
  /** Two counters: the next place in `order`, and the number of threads that have ended. */
  const shared = new Int32Array(new SharedArrayBuffer(8));
  const ports = Array.from({ length: threads }, () => new MessageChannel());
  const workers = ports.map(
    ({ port2: port }) =>
      new Worker(new URL("./hash-worker.js", import.meta.url), {
        workerData: { files, order, shared, port },
        transferList: [port],
      }),
  );
  for (const worker of workers) worker.on("error", () => {}).unref();
  for (let ended = Atomics.load(shared, 1); ended < threads; ended = Atomics.load(shared, 1))
    Atomics.wait(shared, 1, ended);
  const hashes: (string | { failure: string })[] = [];
  for (const { port1 } of ports) {
    for (let message = receiveMessageOnPort(port1); message; message = receiveMessageOnPort(port1)) {
      const { index, hash } = message.message as { index: number; hash: string | { failure: string } };
      hashes[index] = hash;
    }
    port1.close();
  }
  return files.map((file, i) => hashes[i] ?? hashOrFailure(file));
}
