// Checks that streams on a grid stay within half of its range, so that no sum wraps. Kernels note the largest values
// beyond it in two numbers (src/torch/ops/streams.ts). A range owns these numbers. On a CPU it looks at them behind
// each block, which costs nothing. On a GPU that would wait for the block, so a step looks once it knows its loss, and
// at its end.
import { BadValuesError } from "../../errors.js";
import { isCpu } from "../../torch/device-name.js";
import { free, keep } from "../../torch/scope.js";
import { type Tensor, toArray, zeros } from "../../torch/tensor.js";
import { NO_WATCH, type Watch } from "./format.js";

const BRANCH = "a branch of the network";
const BLOCK = "a block of the network";

export class Range {
  /** The two numbers of the watch that is open; made on the device of its first kernel. */
  #flags: Tensor | null = null;
  #watching = false;

  /** `unit`: grid steps in 1. `limit`: the value at half of the grid's range. */
  constructor(
    readonly unit: number,
    readonly limit: number,
  ) {}

  /** Runs `fn` and looks at what its kernels noted. Inside another watch, that watch looks. */
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

  /** Calls a kernel with the flags to note in. */
  noted(device: string, kernel: (flags: Tensor) => void): void {
    this.during(BLOCK, () => {
      this.#flags ??= flagsOn(device);
      kernel(this.#flags);
    });
  }

  /** Opens a watch; only its holder ends it. */
  hold(device: string): Watch {
    this.#watching = true;
    this.#flags = flagsOn(device);
    return { look: () => this.#look(BLOCK), close: () => this.#close() };
  }

  watch = (device: string): Watch => (isCpu(device) ? NO_WATCH : this.hold(device));

  /** Throws if a product or an element, in units of the grid, is beyond the limit. */
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

/** The limit of int64 with its usual 32 fractional bits: a wider grid does not exist. */
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
