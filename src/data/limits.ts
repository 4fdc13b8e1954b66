// Upper limits for chat templates, tokenizers and rows. Templates and tokenizers come with a model, rows with a data
// set; the person who runs this wrote neither. Each limit is far above what real ones need, and low enough that all end
// in an error message after seconds, with memory to spare.
import { UserError } from "../errors.js";

/** Thrown when one of the limits below is passed; the message names it. */
export class LimitExceeded extends UserError {}

export const TEMPLATE_LIMITS = {
  /** Characters of a template. The longest of released models have 30,000. */
  source: 1 << 20,
  /** Blanks in a row; the library's reader takes time with their square. Released templates have up to 50. */
  blanks: 1000,
  /** Expressions and statements evaluated for one text. A turn takes 20 to 100: enough for 100,000 turns. About 3 s. */
  steps: 10_000_000,
  /** Nested expressions and calls of macros. Real templates stay below 60; the stack overflows at about 1,500. */
  depth: 500,
  /** Characters of any text, and entries of any list, beside four times the size of the conversation. */
  text: 1 << 22,
  entries: 1 << 20,
  /** Bytes that one rendering may add to the memory in use when it is first measured. */
  memory: 2 ** 29,
  /** Blanks of indentation, which JSON repeats many times. Real templates use 4. */
  indent: 1000,
  /** Letters that one search may compare in the worst case, since nothing can stop a search: about 1 s. */
  search: 2 ** 33,
} as const;

export const ROW_LIMITS = {
  /**
   * Messages, where a template does not show turns by itself and all earlier ones are rendered for each: 1,000 take 7
   * to 35 s, and time grows with the square.
   */
  messages: 2000,
  /** Letters of a text to encode: each takes about 20 bytes of memory meanwhile. */
  letters: 2 ** 27,
} as const;

export const TOKENIZER_LIMITS = {
  /** Bytes of tokenizer.json. The largest of released models have 35 million. */
  file: 96 * 2 ** 20,
  /** Entries of a vocabulary, and merges. Released ones have up to 260,000 and 515,000. */
  entries: 1 << 22,
  /** Largest id. Ids are rows of the embedding, and indexes of a list as long as the largest. */
  id: (1 << 24) - 1,
  /** Letters of all added tokens together: each costs an object of 200 bytes. Released ones have up to 200,000. */
  added: 1 << 20,
  /** Letters of a text that a part of a tokenizer inserts or replaces others with. Released ones have one. */
  content: 256,
  /** Letters of one word, which the pre-tokenizer does not split: merging takes 500 bytes for each. */
  word: 1 << 21,
  /** Factor by which a normalizer may lengthen a text; it is 6 for the longest composed letter. */
  growth: 32,
} as const;

/** In seconds. A busy or sleeping machine gets four times as much. */
export const TIME_LIMITS = {
  /**
   * To read a template or a tokenizer, in addition to `perMegabyte`. The largest real tokenizers take 1 s and 35 MB.
   */
  read: 2,
  /** To render and encode a row, in addition to the two below. Real rows take milliseconds. */
  row: 2,
  /** For each million letters. Real tokenizers take 0.3 to 1.5 s. */
  perMegabyte: 6,
  /**
   * For each pair of messages of a row: finding an answer may take six renderings of all before it. Real templates take
   * up to 3.5e-5.
   */
  perPair: 5e-5,
} as const;

/**
 * Letters of all texts in a value, names included, plus one per entry. Walks without recursion, so depth does not
 * matter.
 */
export function sizeOf(value: unknown): number {
  let size = 0;
  const left = [value];
  while (left.length > 0) {
    const next = left.pop();
    size++;
    if (typeof next === "string") size += next.length;
    else if (Array.isArray(next)) for (const item of next) left.push(item);
    else if (typeof next === "object" && next !== null) {
      for (const [key, item] of Object.entries(next)) {
        size += key.length;
        left.push(item);
      }
    }
  }
  return size;
}

/** Seconds that a row or a text with this many messages may take. */
export function secondsFor(value: unknown, messages = 0): number {
  const { row, perMegabyte, perPair } = TIME_LIMITS;
  return row + perMegabyte * 1e-6 * sizeOf(value) + perPair * Math.min(messages, ROW_LIMITS.messages) ** 2;
}

/** A stranger's text for a message of ours: one short line, without anything that a terminal obeys. */
export function quoted(text: string): string {
  const line = text
    .slice(0, 1000)
    .replaceAll(/[\p{Cc}\p{Cf}\s]+/gu, " ")
    .trim();
  return line.length > 200 ? `${line.slice(0, 200)}...` : line;
}
