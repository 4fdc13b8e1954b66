// One pass over the parts of a network whose weights lie on several ranks: whole weights of the part at hand and of the one behind it, which comes
// meanwhile. What this rank holds is offered to all others from the beginning, so that each may be as far ahead or behind as it is; where tensors
// travel in rounds, with the reads of the same part. Owns the copies until the pass ends.
import type { RemoteReads } from "../../parallel/collectives.js";
import { assert } from "../../errors.js";
import { copy_, narrow } from "../../torch/ops.js";
import { free, keep, scope } from "../../torch/scope.js";
import { type Rows, byteSize, device, dtype, empty, type Tensor } from "../../torch/tensor.js";

/** A parameter, of which this rank holds the rows `own`. */
export interface SharedWeight {
  name: string;
  stored: Tensor;
  shape: number[];
  /** By rank. */
  rows: readonly Rows[];
}

interface Copies {
  of: Map<Tensor, Tensor>;
  awaited: (() => void)[];
}

const NONE: Copies = { of: new Map(), awaited: [] };

export class Gathering {
  readonly #parts: readonly number[];
  readonly #weightsOf: (part: number) => readonly SharedWeight[];
  readonly #bring: (part: number) => void;
  readonly #reads: RemoteReads;
  readonly #rank: number;
  readonly #others: readonly number[];
  /** Of a part's first message. */
  readonly #numbers = new Map<number, number>();
  #at = -1;
  #loaded = NONE;
  #next = NONE;

  /**
   * `parts` in the order in which they will be loaded; one that is not is read nevertheless, since it is offered. `bring` waits until what this rank
   * holds of a part is at hand.
   */
  constructor(
    parts: readonly number[],
    { weightsOf, bring }: { weightsOf: (part: number) => readonly SharedWeight[]; bring: (part: number) => void },
    reads: RemoteReads,
    { rank, world }: { rank: number; world: number },
  ) {
    this.#parts = parts;
    this.#weightsOf = weightsOf;
    this.#bring = bring;
    this.#reads = reads;
    this.#rank = rank;
    this.#others = Array.from({ length: world }, (_, each) => each).filter((each) => each !== rank);
    let number = 0;
    for (const part of parts) {
      this.#numbers.set(part, number);
      number += weightsOf(part).length;
    }
    if (!reads.inRounds) for (const part of parts) this.#offer(part);
    this.#next = this.#begin(0);
  }

  get bytes(): number {
    return [this.#loaded, this.#next].flatMap(({ of }) => [...of.values()]).reduce((sum, t) => sum + byteSize(t), 0);
  }

  /** Where the whole of a part's weights is. */
  load(part: number): (stored: Tensor) => Tensor {
    const to = this.#parts.indexOf(part);
    assert(to >= this.#at, `part ${part} is loaded behind part ${this.#parts[this.#at]}`);
    while (this.#at < to) this.#advance();
    const { of } = this.#loaded;
    return (stored) => of.get(stored) ?? stored;
  }

  /** Waits until all others have what this rank holds of a part, which may change then. */
  settle(part: number): void {
    const number = this.#numbers.get(part);
    if (number === undefined) return;
    assert(
      !this.#reads.inRounds || this.#parts.indexOf(part) <= this.#at + 1,
      `part ${part} changes before it is read`,
    );
    for (const i of this.#weightsOf(part).keys()) this.#reads.settled(number + i);
  }

  /** Reads what is left, for others wait for no rank that does not come as far, and waits until they have what this one offered. */
  finish(): void {
    while (this.#at < this.#parts.length) this.#advance();
    this.#reads.finish();
  }

  close(): void {
    this.#reads.close();
    for (const { of } of [this.#loaded, this.#next]) free(...of.values());
    [this.#loaded, this.#next] = [NONE, NONE];
  }

  #advance(): void {
    free(...this.#loaded.of.values());
    this.#loaded = this.#next;
    this.#next = NONE;
    this.#at++;
    for (const wait of this.#loaded.awaited.splice(0)) wait();
    this.#next = this.#begin(this.#at + 1);
  }

  #offer(part: number): void {
    const number = this.#numbers.get(part) as number;
    for (const [i, { stored, rows }] of this.#weightsOf(part).entries())
      if (rows[this.#rank].count > 0) this.#reads.offer(number + i, stored, this.#others);
  }

  #begin(at: number): Copies {
    if (at >= this.#parts.length) return NONE;
    const part = this.#parts[at];
    if (this.#reads.inRounds) this.#offer(part);
    const number = this.#numbers.get(part) as number;
    const copies: Copies = { of: new Map(), awaited: [] };
    this.#bring(part);
    scope(() => {
      for (const [i, { stored, shape, rows }] of this.#weightsOf(part).entries()) {
        if (rows[this.#rank].count === shape[0]) continue;
        const whole = keep(empty(shape, dtype(stored), device(stored)));
        copies.of.set(stored, whole);
        for (const [from, { first, count }] of rows.entries()) {
          if (count === 0) continue;
          const place = narrow(whole, 0, first, count);
          if (from === this.#rank) copy_(place, stored);
          else copies.awaited.push(this.#reads.read(number + i, from, place));
        }
      }
    });
    this.#reads.go();
    return copies;
  }
}
