// Reads little-endian values one after the other from a file, through a window. A read beyond the end is an error that
// says the file is cut off. The caller closes the reader.
import { closeSync, fstatSync, readSync } from "node:fs";

import { UserError } from "../../errors.js";
import { openForReading } from "../../read-file.js";

const WINDOW_BYTES = 1 << 20;
/** Most bytes of a head: several times the largest head of any released model. */
const MOST_BYTES = 1 << 27;

export class ByteReader {
  readonly #file: number;
  #window = Buffer.alloc(0);
  #windowStart = 0;
  /** Size of the file in bytes. */
  readonly size: number;
  /** Where the next value begins, in bytes from the start of the file. */
  position = 0;

  constructor(readonly path: string) {
    this.#file = openForReading(path);
    this.size = fstatSync(this.#file).size;
  }

  get left(): number {
    return this.size - this.position;
  }

  /** The next `count` bytes, valid until the next call. */
  bytes(count: number): Buffer {
    if (count > this.left) {
      throw new UserError(
        `${this.path}: the file is cut off or damaged: its header goes on at byte ${this.position} for ${count} bytes, ` +
          `but the file has ${this.size}. Download it again.`,
      );
    }
    if (this.position + count > MOST_BYTES) {
      throw new UserError(
        `${this.path}: its header goes on for more than ${MOST_BYTES} bytes (at byte ${this.position} for ${count}). The file is damaged. Download it again.`,
      );
    }
    let from = this.position - this.#windowStart;
    if (from + count > this.#window.length) {
      this.#window = Buffer.alloc(Math.min(Math.max(count, WINDOW_BYTES), this.left));
      readSync(this.#file, this.#window, 0, this.#window.length, this.position);
      this.#windowStart = this.position;
      from = 0;
    }
    this.position += count;
    return this.#window.subarray(from, from + count);
  }

  uint32(): number {
    return this.bytes(4).readUInt32LE();
  }

  /** As a double: exact below 2^53, as counts and offsets in real files are. */
  uint64(): number {
    return Number(this.bytes(8).readBigUInt64LE());
  }

  string(): string {
    return this.bytes(this.uint64()).toString("utf8");
  }

  close(): void {
    closeSync(this.#file);
  }
}
