// Whether streams on a grid stay within half of its range, so that no sum wraps. Kernels note the largest of what does not in two numbers
// beside them (src/torch/ops/streams.ts); a range owns these, and looks at them behind a block on a CPU, where that costs nothing. On a GPU it
// would wait for the block, so a step looks once it knows its loss, and at its end.
import { BadValuesError } from "../../errors.js";
import { isCpu } from "../../torch/device-name.js";
import { free, keep } from "../../torch/scope.js";
import { type Tensor, toArray, zeros } from "../../torch/tensor.js";
import { NO_WATCH, type Watch } from "./format.js";

const BRANCH = "a branch of the network";
const BLOCK = "a block of the network";

export class Range {
  /** Of whoever watches now; made on the device of the first kernel. */
  #flags: Tensor | null = null;
  #watching = false;

  /** The grid's units in 1, and the value where half of its range ends. */
  constructor(
    readonly unit: number,
    readonly limit: number,
  ) {}

  /** Runs `fn` and looks at what its kernels noted; within another watch, that looks. */
  during<Result>(where: string, fn: () => Result): Result {
    if (this.#watching) return fn();
    this.#watching = true;
    try {
      const result = fn();
      this.#look(where);
      return result;
    } finally {
      this.#close();
    }
  }

  /** Calls a kernel with the flags. */
  noted(device: string, kernel: (flags: Tensor) => void): void {
    this.during(BLOCK, () => {
      this.#flags ??= flagsOn(device);
      kernel(this.#flags);
    });
  }

  /** A watch that nobody else ends. */
  hold(device: string): Watch {
    this.#watching = true;
    this.#flags = flagsOn(device);
    return { look: () => this.#look(BLOCK), close: () => this.#close() };
  }

  watch = (device: string): Watch => (isCpu(device) ? NO_WATCH : this.hold(device));

  /** Throws for a product or an element of this size, in units of the grid. */
  check(product: number, element: number, where: string): void {
    const { unit, limit } = this;
    if (!(product / unit < limit))
      throw Number.isFinite(product) ? outOfRange(product / unit, limit, BRANCH) : notFinite(BRANCH);
    if (!(element / unit < limit)) throw outOfRange(element / unit, limit, where);
  }

  #look(where: string): void {
    if (this.#flags === null) return;
    const [product, element] = toArray(this.#flags);
    this.check(product, element, where);
  }

  #close(): void {
    if (this.#flags !== null) free(this.#flags);
    this.#flags = null;
    this.#watching = false;
  }
}

const flagsOn = (device: string): Tensor => keep(zeros([2], "float64", device));

export function notFinite(where: string): BadValuesError {
  return new BadValuesError(`${where}: a value is not a finite number.`, "The model's weights may be damaged.");
}

/** The limit of int64 with its usual 32 fractional bits. */
const WIDEST = 2 ** 30;

function outOfRange(largest: number, limit: number, where: string): BadValuesError {
  const remedy =
    largest < WIDEST
      ? "Set fewer stream_fraction_bits, or stream to int64."
      : "No grid holds that: the learning rate may be too high, or the weights damaged.";
  return new BadValuesError(
    `${where}: a stream value of ${largest.toPrecision(3)} leaves the grid (limit ${limit}).`,
    remedy,
  );
}
