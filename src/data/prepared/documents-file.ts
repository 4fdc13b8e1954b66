// Documents in a file: each is written once, as it comes, and read when a batch needs it, so memory holds twelve bytes
// per document. After the documents come their lengths and offsets, then a record in JSON, then the record's length and
// digest; the record has the digest of all before it. Numbers are little-endian, as on every machine that Node runs on.
import { createHash } from "node:crypto";
import { closeSync, fstatSync, fsyncSync, openSync, readSync } from "node:fs";

import { writeAll } from "../../checkpoint/files/disk.js";
import type { Document, DocumentFacts, Documents } from "../documents.js";
import { fingerprintRows } from "../fingerprint.js";

/** The record behind the documents. */
export interface FileRecord {
  documents: number;
  /** Bytes of all documents; the index begins there. */
  bytes: number;
  /** Digest of documents and index, in hexadecimal. */
  sha256: string;
  facts: DocumentFacts;
  /** Anything that the writer adds. */
  about: unknown;
}

const MAGIC = "revmoe documents 1\n";
/** Digest and length of the record, and MAGIC. */
const TRAILER = 32 + 4 + MAGIC.length;
const INDEX_BYTES = 12;

/** A file that is being written. Methods throw the system's errors. */
export class DocumentsWriter {
  private readonly file: number;
  private readonly lengths: number[] = [];
  private readonly offsets: number[] = [];
  private readonly hash = createHash("sha256");
  private bytes = 0;
  private largestToken = 0;

  constructor(path: string) {
    this.file = openSync(path, "w+", 0o600);
  }

  /** Writes all of these documents or none. */
  add(documents: readonly Document[]): void {
    const parts = documents.map(bytesOf);
    const whole = Buffer.concat(parts);
    writeAll(this.file, whole);
    this.hash.update(whole);
    for (const [i, { tokens }] of documents.entries()) {
      this.lengths.push(tokens.length);
      this.offsets.push(this.bytes);
      this.bytes += parts[i].length;
      for (const token of tokens) if (token > this.largestToken) this.largestToken = token;
    }
  }

  /** Makes the file durable; it stays open for the documents that are returned. */
  finish(about: unknown): Documents {
    const index = this.index();
    const facts = { fingerprint: fingerprintRows(documentsIn(this.file, index)), largestToken: this.largestToken };
    const tail = Buffer.concat([bytesIn(index.lengths), bytesIn(index.offsets)]);
    const sha256 = this.hash.update(tail).digest("hex");
    const record: FileRecord = { documents: index.lengths.length, bytes: this.bytes, sha256, facts, about };
    const json = Buffer.from(JSON.stringify(record));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(json.length);
    const digest = createHash("sha256").update(json).digest();
    writeAll(this.file, Buffer.concat([tail, json, digest, length, Buffer.from(MAGIC)]));
    fsyncSync(this.file);
    return documentsIn(this.file, index, facts);
  }

  /** The documents written so far, if the file cannot be finished. */
  written(): Documents {
    return documentsIn(this.file, this.index());
  }

  close(): void {
    closeSync(this.file);
  }

  private index(): Index {
    return {
      lengths: Uint32Array.from(this.lengths),
      offsets: Float64Array.from(this.offsets),
      bytes: this.bytes,
    };
  }
}

interface Index {
  lengths: Uint32Array;
  offsets: Float64Array;
  /** Where the last document ends. */
  bytes: number;
}

/**
 * The documents of a finished file, which stays open until they are closed. Errors: an Error that says why a file is
 * not whole.
 */
export function openDocuments(path: string): { documents: Documents; about: unknown } {
  const file = openSync(path, "r");
  try {
    const { record, index } = readIndex(file);
    return { documents: documentsIn(file, index, record.facts), about: record.about };
  } catch (failure) {
    closeSync(file);
    throw failure;
  }
}

function readIndex(file: number): { record: FileRecord; index: Index } {
  const { size } = fstatSync(file);
  if (size < TRAILER) throw new Error("it is cut short");
  const trailer = read(file, size - TRAILER, TRAILER);
  if (Buffer.from(trailer.subarray(36)).toString("latin1") !== MAGIC) throw new Error("it is cut short");
  const length = Buffer.from(trailer.buffer).readUInt32LE(32);
  if (length > size - TRAILER) throw new Error("its record is damaged");
  const json = read(file, size - TRAILER - length, length);
  if (!createHash("sha256").update(json).digest().equals(trailer.subarray(0, 32)))
    throw new Error("its record is damaged");
  const record = JSON.parse(Buffer.from(json).toString("utf8")) as FileRecord;
  const end = record.bytes + record.documents * INDEX_BYTES;
  if (end !== size - TRAILER - length || digestTo(file, end) !== record.sha256)
    throw new Error("its bytes are not those that were written");
  const lengths = new Uint32Array(read(file, record.bytes, 4 * record.documents).buffer);
  const offsets = new Float64Array(read(file, record.bytes + lengths.byteLength, 8 * record.documents).buffer);
  return { record, index: { lengths, offsets, bytes: record.bytes } };
}

function digestTo(file: number, end: number): string {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(1 << 20);
  for (let at = 0; at < end; ) {
    const count = readSync(file, buffer, 0, Math.min(buffer.length, end - at), at);
    if (count === 0) throw new Error("it is cut short");
    hash.update(buffer.subarray(0, count));
    at += count;
  }
  return hash.digest("hex");
}

function documentsIn(file: number, { lengths, offsets, bytes }: Index, facts?: DocumentFacts): Documents {
  return {
    length: lengths.length,
    facts,
    lengthOf: (index) => lengths[index],
    document: (index) => {
      const start = offsets[index];
      const end = index + 1 < offsets.length ? offsets[index + 1] : bytes;
      return documentIn(read(file, start, end - start), lengths[index]);
    },
    close: () => closeSync(file),
  };
}

/** Tokens, a bit per token for whether it is trained, and the place. */
function bytesOf({ tokens, trained, place }: Document): Uint8Array {
  const bits = new Uint8Array(Math.ceil(tokens.length / 8));
  for (let i = 0; i < trained.length; i++) bits[i >> 3] |= trained[i] << (i & 7);
  return Buffer.concat([bytesIn(tokens), bits, Buffer.from(place)]);
}

function documentIn(bytes: Uint8Array, length: number): Document {
  const bits = bytes.subarray(4 * length);
  const trained = new Uint8Array(length);
  for (let i = 0; i < length; i++) trained[i] = (bits[i >> 3] >> (i & 7)) & 1;
  const place = Buffer.from(bits.subarray(Math.ceil(length / 8))).toString("utf8");
  return { tokens: new Int32Array(bytes.buffer, 0, length), trained, place };
}

const bytesIn = ({ buffer, byteOffset, byteLength }: NodeJS.TypedArray): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** Reads bytes into memory of their own, aligned for numbers. */
function read(file: number, position: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const count = readSync(file, bytes, done, length - done, position + done);
    if (count === 0) throw new Error("it is cut short");
    done += count;
  }
  return bytes;
}
