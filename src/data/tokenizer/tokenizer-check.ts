// Checks tokenizer.json before the tokenizer library reads it. The library believes everything: it makes lists as long
// as the largest id, joins any texts it is told to, and silently drops the result of a merge that is not a token.
import { UserError } from "../../errors.js";
import { TOKENIZER_LIMITS as LIMITS, quoted } from "../limits.js";

type Json = Record<string, unknown>;

const DAMAGED = "The file is damaged, or no tokenizer; fetch it again.";

/** The size of the checked vocabulary: one more than the largest id. Errors: UserError with the entry that is wrong. */
export function checkTokenizer(json: Json, path: string): number {
  const refuse = (what: string, expected: string): never => {
    throw new UserError(`${path}: ${what} (expected ${expected}). ${DAMAGED}`);
  };
  const { model } = json;
  if (!isObject(model)) return refuse(`this is no tokenizer that can be read: model is ${show(model)}`, "an object");
  const isId = (id: unknown): id is number =>
    Number.isInteger(id) && (id as number) >= 0 && (id as number) <= LIMITS.id;
  const ids = Array.isArray(model.vocab) ? scored(model.vocab, refuse) : named(model.vocab, refuse);
  let size = 0;
  for (const [token, id] of ids) {
    if (!isId(id)) refuse(`the id of "${quoted(String(token))}" is ${show(id)}`, `a whole number up to ${LIMITS.id}`);
    size = Math.max(size, (id as number) + 1);
  }
  if (isObject(model.vocab)) checkMerges(model, model.vocab, refuse);
  for (const id of addedIds(json.added_tokens, isId, refuse)) size = Math.max(size, id + 1);
  checkParts([json.normalizer, json.pre_tokenizer, json.decoder, json.post_processor], refuse);
  return size;
}

type Refuse = (what: string, expected: string) => never;

function named(vocab: unknown, refuse: Refuse): [string, unknown][] {
  if (!isObject(vocab))
    return refuse(`this is no tokenizer that can be read: vocab is ${show(vocab)}`, "an object or a list");
  const entries = Object.entries(vocab);
  if (entries.length > LIMITS.entries) refuse(`vocab has ${entries.length} entries`, `at most ${LIMITS.entries}`);
  return entries;
}

/** A Unigram vocabulary: a list of tokens with scores; their places are their ids. */
function scored(vocab: unknown[], refuse: Refuse): [unknown, number][] {
  if (vocab.length === 0 || vocab.length > LIMITS.entries)
    refuse(`vocab has ${vocab.length} entries`, `1 to ${LIMITS.entries}`);
  return vocab.map((entry, id) => {
    if (!Array.isArray(entry) || typeof entry[0] !== "string" || typeof entry[1] !== "number") {
      refuse(`vocab[${id}] is ${show(entry)}`, "a token and its score");
    }
    return [(entry as unknown[])[0], id];
  });
}

/** Both sides of a merge and its result must be tokens. */
function checkMerges(model: Json, vocab: Json, refuse: Refuse): void {
  const { merges } = model;
  if (merges === undefined && model.type !== "BPE") return;
  if (!Array.isArray(merges)) refuse(`merges is ${show(merges)}`, "a list");
  if (merges.length > LIMITS.entries) refuse(`merges has ${merges.length} entries`, `at most ${LIMITS.entries}`);
  const prefix = typeof model.continuing_subword_prefix === "string" ? model.continuing_subword_prefix : "";
  const pairs = Array.isArray(merges[0]);
  for (const [i, merge] of merges.entries()) {
    const parts: unknown = !pairs && typeof merge === "string" ? merge.split(" ") : pairs ? merge : undefined;
    if (!Array.isArray(parts) || parts.length !== 2) refuse(`merges[${i}] is ${show(merge)}`, "two tokens");
    const [left, right] = parts as [string, string];
    const has = (token: unknown): boolean => typeof token === "string" && Object.hasOwn(vocab, token);
    if (
      !has(left) ||
      !has(right) ||
      !(has(left + right) || (prefix !== "" && has(left + right.slice(prefix.length))))
    ) {
      refuse(`merges[${i}] is ${show(merge)}, of which a side or the whole is not in vocab`, "tokens of vocab");
    }
  }
}

function addedIds(added: unknown, isId: (id: unknown) => id is number, refuse: Refuse): number[] {
  if (added === undefined || added === null) return [];
  if (!Array.isArray(added)) return refuse(`added_tokens is ${show(added)}`, "a list");
  let letters = 0;
  return added.map((token: unknown, i) => {
    const { id, content } = isObject(token) ? token : {};
    if (!isId(id)) return refuse(`added_tokens[${i}].id is ${show(id)}`, `a whole number up to ${LIMITS.id}`);
    if (typeof content !== "string" || content === "")
      return refuse(`added_tokens[${i}].content is ${show(content)}`, "a text, not empty");
    letters += content.length;
    if (letters > LIMITS.added) refuse(`added_tokens have more than ${LIMITS.added} letters`, "fewer");
    return id;
  });
}

/** Texts that are inserted or replace others must be short, and lengths must be lengths. */
function checkParts(parts: unknown[], refuse: Refuse): void {
  const left = [...parts];
  while (left.length > 0) {
    const part = left.pop();
    if (typeof part !== "object" || part === null) continue;
    for (const [key, value] of Object.entries(part)) {
      if (/^(prepend|content|replacement|str_rep|suffix|prefix)$/.test(key)) {
        if (typeof value === "string" && value.length > LIMITS.content) {
          refuse(`${key} has ${value.length} letters`, `at most ${LIMITS.content}`);
        }
      } else if (key === "length" && !(Number.isInteger(value) && value >= 1)) {
        refuse(`length is ${show(value)}`, "a whole number from 1");
      }
      left.push(value);
    }
  }
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value in a message. */
function show(value: unknown): string {
  if (typeof value === "object" && value !== null)
    return Array.isArray(value) ? `a list of ${value.length}` : "an object";
  return typeof value === "string" ? `"${quoted(value)}"` : String(value ?? "missing");
}
