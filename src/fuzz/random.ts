// The random draws of one mutated input. They depend only on (seed, reader, number), so any finding can be reproduced
// from these.
import { type Generator32, seededGenerator } from "../data/shuffle.js";

export class Random {
  readonly #next: Generator32;

  constructor(seed: number, stream: number) {
    this.#next = seededGenerator(seed, stream);
  }

  /** A whole number from 0 to below `count`. */
  below(count: number): number {
    return count <= 0 ? 0 : Math.floor((this.#next() / 2 ** 32) * count);
  }

  /** True once in `count` draws on average. */
  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)];
  }

  /** 1 in half of the draws, 2 in a quarter, and so on; at most 8. */
  few(): number {
    let count = 1;
    while (count < 8 && this.oneIn(2)) count++;
    return count;
  }
}
