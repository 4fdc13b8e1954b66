// Little-endian values one after the other from a file, through a window of it. A read beyond the end says that the file
// is cut off. The caller closes it.
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

import { UserError } from "../../errors.js";

const WINDOW_BYTES = 1 << 20;

export class ByteReader {
  readonly #file: number;
  #window = Buffer.alloc(0);
  #windowStart = 0;
  /** Of the file, in bytes. */
  readonly size: number;
  /** Where the next value begins, in bytes from the start of the file. */
  position = 0;

  constructor(readonly path: string) {
    try {
      this.#file = openSync(path, "r");
    } catch (failure) {
      const { code, message } = failure as NodeJS.ErrnoException;
      throw new UserError(code === "ENOENT" ? `${path}: no such file.` : `${path}: cannot be read: ${message}.`);
    }
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

  /** As a double: exact below 2^53, which counts and offsets of real files are. */
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
