// A file mapped for writing: what is written to its tensor reaches the file. Threads of the engine read, write back and
// drop its pages; here one can only wait for them. Whoever opened it owns it until `close`; views of the tensor must be
// freed before.
import { closeSync, fsyncSync, fstatSync, openSync } from "node:fs";

import { naming } from "../read-file.js";
import { fileCutShort, native } from "./binding.js";
import { free, keep } from "./scope.js";
import type { Tensor } from "./tensor.js";

export class SharedMapping {
  readonly path: string;
  readonly bytes: number;
  /** uint8, the whole file. */
  readonly tensor: Tensor;
  readonly #file: number;
  #read = 0;
  #written = 0;

  /** Maps the file at `path`; with `bytes`, creates it with that size and reserves its place on the disk. */
  constructor(path: string, bytes = 0) {
    this.path = path;
    this.#file = openSync(path, bytes > 0 ? "w+" : "r+");
    try {
      this.bytes = bytes > 0 ? bytes : fstatSync(this.#file).size;
      this.tensor = keep(native.mapShared(this.#file, this.bytes, bytes > 0, path) as Tensor);
    } catch (failure) {
      closeSync(this.#file);
      throw new Error(`${path}: ${(failure as Error).message}`);
    }
  }

  /** Begins to read all pages into memory, after earlier requests. */
  readAhead(): void {
    this.#read = native.readAhead(this.tensor);
  }

  /** Waits until the last `readAhead` is done. */
  awaitRead(): void {
    native.waitForPages(true, this.#read);
  }

  /** Begins to write changed pages to the disk. */
  writeBack(): void {
    this.#written = native.writeBack(this.#file);
  }

  /** Drops the pages that need no writing, after earlier requests. */
  drop(): void {
    this.#written = native.dropPages(this.tensor, this.#file);
  }

  /** Returns when every change is on the disk. Errors: UserError if the file has lost some of them. */
  sync(): void {
    naming(this.path, () => fsyncSync(this.#file));
    native.checkFiles();
    if (fstatSync(this.#file).size < this.bytes) throw fileCutShort(this.path);
  }

  close(): void {
    native.waitForPages(true, this.#read);
    native.waitForPages(false, this.#written);
    free(this.tensor);
    closeSync(this.#file);
  }
}
