// The tokenizer library for texts and settings from strangers: what it does ends within a limit, in tokens or in an
// error that names the file. For tokenizers without a pre-tokenizer, long texts are cut between words that no token
// joins, since the library could not hold them whole.
// token reaches across: it could not hold them whole.
import { Tokenizer as JsonTokenizer } from "@huggingface/tokenizers";
import { UserError } from "../../errors.js";
import { TOKENIZER_LIMITS as LIMITS, quoted, ROW_LIMITS, secondsFor, TIME_LIMITS } from "../limits.js";
import { inTime } from "../time-limit.js";
import { checkTokenizer } from "./tokenizer-check.js";
import { rememberWords } from "./word-memo.js";

type Json = Record<string, unknown>;

export interface BoundedTokenizer {
  inner: JsonTokenizer;
  /** One more than the largest id. */
  vocabSize: number;
  /** A part is undefined if it has no token and the vocabulary has none for unknown parts. */
  encode(text: string, addSpecialTokens: boolean): (number | undefined)[];
  decode(ids: number[], cleanUp: boolean): string;
}

/** SentencePiece's mark for a space before a word. */
const SPACE = "\u2581";
/** Longer texts are cut between words. */
const UNCUT = 4096;
const PATTERNS_SHOWN = 3;

/** `bytes`, the length of the file, sets the time limit. Errors: UserError that names `path`. */
export function openTokenizer(json: Json, config: Json, path: string, bytes: number): BoundedTokenizer {
  const remedy = `${patternsOf(json)} Fetch the model's files again, from a source you trust.`;
  const opening = { what: `${path}: reading the tokenizer`, remedy };
  const encoding = { what: `${path}: encoding a text`, remedy: `${remedy} Or shorten the text.` };
  const seconds = TIME_LIMITS.read + TIME_LIMITS.perMegabyte * 1e-6 * bytes;
  const vocabSize = checkTokenizer(json, path);
  const inner = inTime(
    () => seconds,
    opening,
    () => open(json, config, path),
  );
  const fails = (error: unknown, text: string): never => {
    if (error instanceof UserError) throw error;
    const what = `the tokenizer fails on a text of ${text.length} letters, "${quoted(text.slice(0, 40))}"`;
    throw new UserError(
      `${path}: ${what}: ${quoted((error as Error).message)}. Its file is damaged, or the text too long for it.`,
    );
  };
  return {
    inner,
    vocabSize,
    encode: (text, add_special_tokens) => {
      if (text.length > ROW_LIMITS.letters) {
        throw new UserError(
          `a text has ${text.length} letters (expected at most ${ROW_LIMITS.letters}). Split it into rows of a .jsonl file.`,
        );
      }
      try {
        return inTime(
          () => secondsFor(text),
          encoding,
          () => inner.encode(text, { add_special_tokens }).ids,
        );
      } catch (error) {
        return fails(error, text);
      }
    },
    decode: (ids, clean_up_tokenization_spaces) => {
      try {
        return inTime(
          () => secondsFor(ids),
          encoding,
          () => inner.decode(ids, { skip_special_tokens: true, clean_up_tokenization_spaces }),
        );
      } catch (error) {
        return fails(error, "");
      }
    },
  };
}

function open(json: Json, config: Json, path: string): JsonTokenizer {
  // The library needs every part to be present, even if it is null; some real files leave parts out.
  const parts = {
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...json,
    added_tokens: json.added_tokens ?? [],
  };
  try {
    const tokenizer = new JsonTokenizer(parts, config);
    boundNormalizer(tokenizer, path);
    boundWords(tokenizer, json, path);
    rememberWords(tokenizer);
    return tokenizer;
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(
      `${path}: this is no tokenizer that can be read: ${quoted((error as Error).message)}. Expected the tokenizer.json ` +
        "of a Hugging Face fast tokenizer.",
    );
  }
}

function boundNormalizer(tokenizer: JsonTokenizer, path: string): void {
  const { normalizer } = tokenizer;
  if (normalizer === null) return;
  const bounded = (text: string): string => {
    const normal = normalizer.normalize(text);
    if (normal.length <= LIMITS.growth * text.length + UNCUT) return normal;
    const what = `the normalizer makes ${normal.length} letters of ${text.length}`;
    throw new UserError(
      `${path}: ${what} (expected at most ${LIMITS.growth} times as many). Fetch the file again, from a source you trust.`,
    );
  };
  tokenizer.normalizer = Object.assign(bounded, { normalize: bounded }) as unknown as typeof normalizer;
}

/** Gives the model only words that it can hold. */
function boundWords(tokenizer: JsonTokenizer, json: Json, path: string): void {
  const model = tokenizer.model as { encode(words: string[]): string[] };
  const encode = model.encode.bind(model);
  const cut = cutter(json.model as Json);
  model.encode = (words) => {
    if (!words.some(({ length }) => length > UNCUT)) return encode(words);
    const short = words.flatMap((word) => (word.length > UNCUT ? cut(word) : [word]));
    const longest = short.reduce((most, { length }) => Math.max(most, length), 0);
    if (longest <= LIMITS.word) return encode(short);
    const what = `a text has ${longest} letters that the tokenizer does not split`;
    throw new UserError(
      `${path}: ${what} (expected at most ${LIMITS.word}). Put blanks or line breaks into the text, or split it into rows.`,
    );
  };
}

/**
 * Cuts words before marks of a space. It does so only if no token has one behind another letter, so no token is lost.
 */
function cutter(model: Json): (word: string) => string[] {
  const tokens = Array.isArray(model.vocab)
    ? model.vocab.map((entry: unknown[]) => String(entry[0]))
    : Object.keys(model.vocab as Json);
  const across = tokens.some(
    (token) => token.lastIndexOf(SPACE) > 0 && new RegExp(`[^${SPACE}]${SPACE}`, "u").test(token),
  );
  if (across || model.end_of_word_suffix || model.continuing_subword_suffix) return (word) => [word];
  return (word) => word.match(new RegExp(`${SPACE}+[^${SPACE}]*|[^${SPACE}]+`, "gu")) ?? [word];
}

/** The regular expressions of a tokenizer, in words, since they are what may take long. */
function patternsOf(json: Json): string {
  const found: string[] = [];
  const left: unknown[] = [json.normalizer, json.pre_tokenizer, json.decoder];
  while (left.length > 0) {
    const part = left.pop();
    if (typeof part !== "object" || part === null) continue;
    for (const [key, value] of Object.entries(part)) {
      if (key === "Regex" && typeof value === "string") found.push(`"${quoted(value)}"`);
      left.push(value);
    }
  }
  if (found.length === 0)
    return "It has no patterns, so the text is too long for it, or its vocabulary is made to be slow.";
  return `Its patterns may try too many ways: ${found.slice(0, PATTERNS_SHOWN).join(", ")}.`;
}
