// A text that is being generated: its pieces, for one loop, and what they took. Leaving the loop frees the keys and values of the text.
import { setImmediate } from "node:timers/promises";

import type { Tokenizer } from "../data/tokenizer/tokenizer.js";
import { UserError } from "../errors.js";
import { streamText } from "../generate/stream-text.js";

interface Generating {
  tokenizer: Tokenizer;
  promptIds: number[];
  /** Begins. */
  tokens(): Generator<number, void, undefined>;
  ended(): void;
}

export class Generation implements AsyncIterable<string> {
  /** Tokens of the prompt, as the model reads it. */
  readonly promptTokens: number;
  readonly #of: Generating;
  readonly #times: number[] = [];
  #tokens: Generator<number, void, undefined> | undefined;
  #stopped = false;

  /** @internal */
  constructor(of: Generating) {
    this.#of = of;
    this.promptTokens = of.promptIds.length;
  }

  /** Tokens so far. */
  get tokens(): number {
    return this.#times.length;
  }

  /** Mean milliseconds of the tokens after the first, which waits for the prompt; null while there are none. */
  get msPerToken(): number | null {
    const times = this.#times;
    return times.length > 1 ? (times[times.length - 1] - times[0]) / (times.length - 1) : null;
  }

  /** Pieces that join to the text; none is empty. Once: a text is not generated again. */
  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    const { tokenizer, promptIds, ended } = this.#of;
    if (this.#tokens) throw new UserError("generate: this text was read already. Ask for it again.");
    this.#tokens = this.#of.tokens();
    try {
      for (const piece of streamText(this.#timed(this.#tokens), tokenizer, promptIds)) {
        yield piece;
        // Others get their turn: what was written reaches its pipe.
        await setImmediate();
        if (this.#stopped) throw new UserError("generate: the model was closed before the text ended.");
      }
    } finally {
      this.stop();
      ended();
    }
  }

  /** Ends it, and frees what it holds. @internal */
  stop(): void {
    this.#stopped = true;
    this.#tokens?.return();
  }

  *#timed(tokens: Iterable<number>): Generator<number, void, undefined> {
    for (const token of tokens) {
      this.#times.push(performance.now());
      yield token;
    }
  }
}
