// Compressions around a file of lines or text: gzip and zstd, known by their first bytes. The output is bounded by the
// input's size, so a small file that would fill the memory or take a day ends in an error message.
import { pipeline, Readable, type Transform } from "node:stream";
import zlib from "node:zlib";
import { UserError } from "../../errors.js";
import { formatBytes } from "../../format.js";
import { quoted } from "../limits.js";
import { FORMAT_LIMITS } from "./limits.js";

export interface Compression {
  name: string;
  /** Endings of file names; the part before tells the format inside. */
  endings: readonly string[];
  magic: readonly number[];
  expand(bytes: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array>;
}

const gzip: Compression = {
  name: "gzip",
  endings: [".gz", ".gzip"],
  magic: [0x1f, 0x8b],
  expand: (bytes) => through(bytes, zlib.createGunzip()),
};

const zstd: Compression = {
  name: "zstd",
  endings: [".zst", ".zstd"],
  magic: [0x28, 0xb5, 0x2f, 0xfd],
  expand: (bytes) => (makeZstd ? through(bytes, makeZstd()) : withFzstd(bytes)),
};

/** Node has zstd from 22.15 on. */
const makeZstd = (zlib as { createZstdDecompress?: () => Transform }).createZstdDecompress;

export const COMPRESSIONS: readonly Compression[] = [gzip, zstd];

/** The compression of a file, by its first bytes; undefined for none. */
export const compressionOf = (head: Uint8Array): Compression | undefined =>
  COMPRESSIONS.find(({ magic }) => magic.every((byte, i) => head[i] === byte));

/** The decompressed bytes. Errors: UserError for damage, and for more bytes than the limits allow. */
export async function* expanded(
  bytes: AsyncIterable<Uint8Array>,
  { name, expand }: Compression,
  path: string,
): AsyncGenerator<Uint8Array> {
  let read = 0;
  let made = 0;
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of bytes) {
      read += chunk.length;
      yield chunk;
    }
  };
  try {
    for await (const chunk of expand(counted())) {
      made += chunk.length;
      if (made > FORMAT_LIMITS.freeBytes + FORMAT_LIMITS.expansion * read) {
        throw new UserError(
          `${path}: ${formatBytes(read)} of ${name} become more than ${formatBytes(made)} (expected at most ${FORMAT_LIMITS.expansion} ` +
            "times as many). This is no file of rows.",
        );
      }
      yield chunk;
    }
  } catch (failure) {
    if (failure instanceof UserError) throw failure;
    throw new UserError(
      `${path}: the ${name} around the file is damaged: ${quoted((failure as Error).message)}. Make or fetch the file again.`,
    );
  }
}

/** Runs bytes through one of Node's own streams. Both ends are closed when the reader stops. */
async function* through(bytes: AsyncIterable<Uint8Array>, stream: Transform): AsyncGenerator<Uint8Array> {
  pipeline(Readable.from(bytes, { objectMode: false }), stream, () => {});
  for await (const chunk of stream) yield chunk as Uint8Array;
}

/** zstd for versions of Node that have none. */
async function* withFzstd(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { Decompress } = await import("fzstd");
  let ready: Uint8Array[] = [];
  const stream = new Decompress((chunk) => {
    if (chunk.length > 0) ready.push(chunk);
  });
  for await (const chunk of bytes) {
    // In small pieces, since each may grow a thousandfold before its size is checked.
    for (let at = 0; at < chunk.length; at += PIECE_BYTES) {
      stream.push(chunk.subarray(at, at + PIECE_BYTES));
      yield* ready;
      ready = [];
    }
  }
  stream.push(new Uint8Array(), true);
  yield* ready;
}

const PIECE_BYTES = 1 << 14;
