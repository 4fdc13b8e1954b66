// Token ids into text as they come. A character may need several tokens, and a token may decode differently after
// another one. So tokens are decoded together with those before them, and held back until their last character is
// complete.
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";

const REPLACEMENT = "\uFFFD";

// Number of prompt tokens that are decoded together with the first new one.
const CONTEXT_TOKENS = 8;

// A character has four bytes at most, but several tokens in a row may end inside one. After this many, the bytes are no
// text, and waiting for more would not help.
const MOST_HELD = 32;

/** Pieces of text that join to the text of `tokens` after `promptIds`; none is empty. */
export function* streamText(
  tokens: Iterable<number>,
  tokenizer: Pick<Tokenizer, "decode">,
  promptIds: ArrayLike<number> = [],
): Generator<string, void, undefined> {
  let said = Array.from(promptIds).slice(-CONTEXT_TOKENS);
  let held: number[] = [];
  const heldText = (): string => tokenizer.decode([...said, ...held]).slice(tokenizer.decode(said).length);
  for (const token of tokens) {
    held.push(token);
    const text = heldText();
    if (held.length < MOST_HELD && (text === "" || text.endsWith(REPLACEMENT))) continue;
    if (text !== "") yield text;
    said = held;
    held = [];
  }
  const rest = heldText();
  if (rest !== "") yield rest;
}
