// Tensors without elements: sizes, strides, a dtype, and a storage that is counted as long as something holds it. Who makes
// or gets one holds it, until `drop`. The ledger knows what is alive on each device, the highest total, and in which span
// of the work each total was reached.
import { UserError } from "../../errors.js";
import { currentSpan } from "../span.js";
import { DTYPES, type DType } from "../types.js";
import type { Node } from "./gradients.js";
import { countOf, isContiguous, rowMajor } from "./shapes.js";
import { deviceIndex, isCpu } from "../device-name.js";

export class Account {
  liveBytes = 0;
  peakBytes = 0;
  blocks = 0;
  /** By span, the highest total while it lasted. */
  readonly spans = new Map<string, number>();
  #highest = 0;

  change(bytes: number): void {
    this.grow(bytes);
    this.blocks += Math.sign(bytes);
    if (bytes <= 0) return;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    this.#highest = Math.max(this.#highest, this.liveBytes);
    const span = currentSpan();
    if (this.liveBytes > (this.spans.get(span) ?? 0)) this.spans.set(span, this.liveBytes);
  }

  /** Goes to another total that is noted nowhere. */
  grow(bytes: number): void {
    this.liveBytes += bytes;
    if (this.liveBytes > Number.MAX_SAFE_INTEGER) throw beyondCounting();
  }

  resetPeak(): void {
    this.peakBytes = this.liveBytes;
    this.spans.clear();
  }

  /** From now on, the highest total is noted anew. Returns what `endWindow` wants back. */
  startWindow(): number {
    const before = this.#highest;
    this.#highest = this.liveBytes;
    return before;
  }

  /** The highest total since the window was started. */
  endWindow(before: number): number {
    const highest = this.#highest;
    this.#highest = Math.max(before, highest);
    return highest;
  }
}

/** What ends a plan whose bytes are no longer told apart by a number. */
export const beyondCounting = (): UserError =>
  new UserError(
    "the plan: a step of this model and this work takes more than 8192 TiB, which is beyond counting. Ask for less of either.",
  );

/** For how many rounds of a loop the one that runs stands, the loops around it included. */
let represented = 1;

/** Runs `fn` as one of `count` rounds that are alike: what it makes counts once until it ends, and `count` times afterwards. */
export function representing<Result>(count: number, fn: () => Result): Result {
  const before = represented;
  represented = before * count;
  try {
    return fn();
  } finally {
    represented = before;
  }
}

/** libtorch's caching allocator on CUDA gives whole multiples of this. */
const CUDA_UNIT = 512;

export class Storage {
  holders = 0;
  /** What reading it gives, where the engine has to know; else zeros. */
  elements: number[] | null = null;
  /** For how many it was made. */
  readonly #stands = represented;

  constructor(
    readonly bytes: number,
    readonly device: string,
    readonly account: Account,
  ) {
    if (bytes > 0) account.change(bytes);
  }

  /** How many storages it is, seen from where the work is now: one inside the rounds that made it, many outside of them. */
  get copies(): number {
    return Math.max(1, this.#stands / represented);
  }

  release(): void {
    this.holders--;
    if (this.holders === 0 && this.bytes > 0) this.account.change(-this.bytes * this.copies);
  }
}

export class Value {
  holders = 1;
  requiresGrad = false;
  /** What made it, where a graph was recorded, and as which of its results. */
  node: Node | null = null;
  result = 0;
  grad: Value | null = null;
  /** Of a leaf: the node that adds to its gradient. */
  accumulator: Node | null = null;

  constructor(
    readonly storage: Storage,
    readonly sizes: readonly number[],
    readonly strides: readonly number[],
    readonly dtype: DType,
  ) {
    storage.holders++;
  }

  get device(): string {
    return this.storage.device;
  }
  get count(): number {
    return countOf(this.sizes);
  }
  get bytes(): number {
    return this.count * DTYPES[this.dtype];
  }
  get copies(): number {
    return this.storage.copies;
  }
  get contiguous(): boolean {
    return isContiguous(this.sizes, this.strides);
  }
}

const byDevice = new Map<string, Account>();
export const accounts = (): Iterable<Account> => byDevice.values();

/** The account of a device; "cuda" and "cuda:0" are one. */
export function accountOf(device: string): Account {
  const key = isCpu(device) ? "cpu" : `cuda:${deviceIndex(device)}`;
  const found = byDevice.get(key) ?? new Account();
  byDevice.set(key, found);
  return found;
}

export const clearAccounts = (): void => byDevice.clear();

export function make(
  sizes: readonly number[],
  dtype: DType,
  device: string,
  strides: readonly number[] = rowMajor(sizes),
): Value {
  const bytes = countOf(sizes) * DTYPES[dtype];
  const given = isCpu(device) ? bytes : Math.ceil(bytes / CUDA_UNIT) * CUDA_UNIT;
  return new Value(new Storage(given, device, accountOf(device)), sizes, strides, dtype);
}

/** Another tensor on the same storage. */
export const viewOf = (of: Value, sizes: readonly number[], strides: readonly number[], dtype = of.dtype): Value =>
  new Value(of.storage, sizes, strides, dtype);

export function hold(value: Value): Value {
  value.holders++;
  return value;
}

export function drop(value: Value | null): void {
  if (value === null) return;
  value.holders--;
  if (value.holders > 0) return;
  value.storage.release();
  value.node?.release();
  value.node = null;
  drop(value.grad);
  value.grad = null;
}
