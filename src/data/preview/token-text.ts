// Tokens as a person reads them: each with its own letters, special tokens by name. All letters together are the text.
// If several tokens make one letter, the last of them has it.
import type { Document } from "../documents.js";
import type { TokenizerInput } from "../prepared/tokenizer-input.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";

export interface TokenText {
  id: number;
  text: string;
  trained: boolean;
  special: boolean;
}

/** What a decoder returns for an incomplete letter. */
const UNFINISHED = "\uFFFD";
/** No letter has more bytes, so what is incomplete after this many tokens is not a letter. */
const MOST_BYTES = 4;

/** Special tokens by id, from tokenizer.json. */
export function specialNames({ files }: TokenizerInput): ReadonlyMap<number, string> {
  const json = files.get("tokenizer.json");
  const { added_tokens: added } = JSON.parse(Buffer.from(json ?? "{}").toString("utf8")) as {
    added_tokens?: { id: number; content: string; special?: boolean }[];
  };
  return new Map((added ?? []).filter(({ special }) => special).map(({ id, content }) => [id, content]));
}

export function tokenTexts(
  { tokens, trained }: Document,
  { decode }: Tokenizer,
  names: ReadonlyMap<number, string>,
): TokenText[] {
  const texts: TokenText[] = [];
  /** Earlier tokens whose text is known; some decoders treat the first token of a text differently. */
  let context: number[] = [];
  let pending: number[] = [];
  for (const [i, id] of tokens.entries()) {
    const name = names.get(id);
    const isTrained = trained[i] === 1;
    if (name !== undefined) {
      texts.push({ id, text: name, trained: isTrained, special: true });
      [context, pending] = [[], []];
      continue;
    }
    pending.push(id);
    const text = decode([...context, ...pending]).slice(context.length === 0 ? 0 : decode(context).length);
    const isOpen = text.endsWith(UNFINISHED) && pending.length < MOST_BYTES && i + 1 < tokens.length;
    texts.push({ id, text: isOpen ? "" : text, trained: isTrained, special: false });
    if (!isOpen) [context, pending] = [pending, []];
  }
  return texts;
}

/** All texts joined, with trained parts between « and ». */
export function markedText(texts: readonly TokenText[]): string {
  let marked = "";
  let open = false;
  for (const { text, trained } of texts) {
    if (trained !== open) marked += trained ? "«" : "»";
    open = trained;
    marked += text;
  }
  return open ? `${marked}»` : marked;
}
