// Token ids into text as they come. A character may be spread over tokens, and a token may read differently behind
// another one, so tokens are decoded together with those before them, and held back until their last character is
// whole.
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";

const REPLACEMENT = "\uFFFD";

// Prompt tokens that the first new one is decoded behind.
const CONTEXT_TOKENS = 8;

// A character has four bytes at most, but tokens may end inside one several times in a row. Beyond this many, the bytes
// are no text, and waiting for more would not mend it.
const MOST_HELD = 32;

/** Pieces of text that join to what `tokens` say behind `promptIds`; none is empty. */
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
