// A text that is being generated: its pieces, for one loop, and its counts and times. Leaving the loop frees its keys
// and values.
import { setImmediate } from "node:timers/promises";

import type { Tokenizer } from "../data/tokenizer/tokenizer.js";
import { UserError } from "../errors.js";
import { streamText } from "../generate/stream-text.js";

interface Generating {
  tokenizer: Tokenizer;
  promptIds: number[];
  /** Begins to generate. */
  tokens(): Generator<number, void, undefined>;
  ended(): void;
}

export class Generation implements AsyncIterable<string> {
  /** Number of tokens of the prompt, as the model reads it. */
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

  /** Number of tokens so far. */
  get tokens(): number {
    return this.#times.length;
  }

  /** Mean milliseconds per token after the first, which waits for the prompt; null before there are any. */
  get msPerToken(): number | null {
    const times = this.#times;
    return times.length > 1 ? (times[times.length - 1] - times[0]) / (times.length - 1) : null;
  }

  /** Pieces that join to the text; none is empty. Can be read only once. */
  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    const { tokenizer, promptIds, ended } = this.#of;
    if (this.#tokens) throw new UserError("generate: this text was read already. Ask for it again.");
    this.#tokens = this.#of.tokens();
    try {
      for (const piece of streamText(this.#timed(this.#tokens), tokenizer, promptIds)) {
        yield piece;
        // Lets other work run, so that what was written reaches its pipe.
        await setImmediate();
        if (this.#stopped) throw new UserError("generate: the model was closed before the text ended.");
      }
    } finally {
      this.stop();
      ended();
    }
  }

  /** Ends the text, and frees what it holds. @internal */
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
