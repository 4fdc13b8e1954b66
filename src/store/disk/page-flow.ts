// Which pages of a working copy are in memory. Parts are used up and down, so the next one is known: it is read ahead
// while the present one computes. Changes are written back at once. Pages stay in memory while there is room; the part
// used longest ago is dropped first. In an order that turns at both ends, that part is needed last.
import { readFileSync } from "node:fs";
import { freemem } from "node:os";

import type { SharedMapping } from "../../torch/mapping.js";
import { PartOrder } from "../part-order.js";

/** Bytes of memory that the page cache leaves to everything else. */
const RESERVE_BYTES = 2 ** 30;

interface Part {
  weights: SharedMapping;
  /** Missing where the optimizer has no state for it. */
  state?: SharedMapping;
}

export class PageFlow {
  readonly #order: PartOrder;
  readonly #parts = new Map<number, Part>();
  /** Files with pages in memory, the last used at the end. */
  readonly #resident = new Set<SharedMapping>();

  constructor(order: number[]) {
    this.#order = new PartOrder(order);
  }

  /** Sets the files of a part; called again when it has more of them. */
  set(part: number, files: Part): void {
    this.#parts.set(part, files);
  }

  /** Waits for the pages of a part, and begins to read those of the next part. */
  enter(part: number): void {
    const ahead = this.#order.enter(part);
    this.#bring(part);
    const waited = this.#files(part);
    if (ahead !== undefined) this.#bring(ahead);
    for (const file of waited) file.awaitRead();
  }

  /** Waits for all pages of a part that is changed after its turn; which part is next does not change. */
  return(part: number): void {
    const files = this.#all(part);
    this.#bringFiles(files);
    for (const file of files) file.awaitRead();
  }

  changed(part: number): void {
    for (const file of this.#all(part)) {
      this.#use(file);
      file.writeBack();
    }
  }

  /** The part that was entered last. */
  get current(): number {
    return this.#order.current;
  }

  #files(part: number): SharedMapping[] {
    return this.#order.isUpdated(part) ? this.#all(part) : [(this.#parts.get(part) as Part).weights];
  }

  #all(part: number): SharedMapping[] {
    const { weights, state } = this.#parts.get(part) as Part;
    return state ? [weights, state] : [weights];
  }

  #bring(part: number): void {
    this.#bringFiles(this.#files(part));
  }

  #bringFiles(files: SharedMapping[]): void {
    for (const file of files) {
      this.#use(file);
      this.#dropOldest();
      file.readAhead();
    }
  }

  #use(file: SharedMapping): void {
    this.#resident.delete(file);
    this.#resident.add(file);
  }

  #dropOldest(): void {
    const most = availableBytes() - RESERVE_BYTES;
    let bytes = [...this.#resident].reduce((sum, file) => sum + file.bytes, 0);
    const files = [...this.#resident];
    // The newest files belong to the part in use and the next one.
    for (const file of files.slice(0, Math.max(0, files.length - 4))) {
      if (bytes <= most) return;
      file.drop();
      this.#resident.delete(file);
      bytes -= file.bytes;
    }
  }
}

/** Bytes of memory that could hold pages: free, or page cache already. */
function availableBytes(): number {
  try {
    const kib = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1];
    return kib === undefined ? freemem() : Number(kib) * 1024;
  } catch {
    return freemem();
  }
}
