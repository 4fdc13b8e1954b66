// tokenizer.json and tokenizer_config.json of a GGUF file, from its `tokenizer.*` metadata: byte-level BPE ("gpt2"),
// and SentencePiece's BPE ("llama"), whose merges follow from the scores of its pieces. Other models are refused by
// name.
import { excerpt, UserError } from "../../errors.js";
import type { MetadataValue } from "./header.js";
import { preTokenization } from "./pre-tokenizers.js";

type Metadata = Record<string, MetadataValue>;

/** Kinds of tokens by their number in `tokenizer.ggml.token_type`. */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;
/** SentencePiece's mark for a space. */
const SPACE = "\u2581";

interface Vocabulary {
  tokens: string[];
  /** All `NORMAL` if the file does not say. */
  kinds: number[];
  ids: Record<string, number>;
}

/** Both files by name, as the content of their JSON. Errors: UserError for missing and unknown metadata. */
export function tokenizerFiles(metadata: Metadata, path: string): Record<string, object> {
  const vocabulary = readVocabulary(metadata, path);
  const model = metadata["tokenizer.ggml.model"];
  const parts =
    model === "gpt2"
      ? byteLevel(vocabulary, metadata, path)
      : model === "llama"
        ? sentencePiece(vocabulary, metadata, path)
        : null;
  if (!parts) throw new UserError(`${path}: "tokenizer.ggml.model" is ${excerpt(model)} (expected gpt2 or llama).`);
  const { addBos, ...rest } = parts;
  const named = specialTokens(metadata, vocabulary, path);
  const adds = { bos: addBos, eos: metadata["tokenizer.ggml.add_eos_token"] === true };
  const template = chatTemplates(metadata);
  const context = metadata[`${String(metadata["general.architecture"])}.context_length`];
  return {
    "tokenizer.json": {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: addedTokens(vocabulary, Object.values(named)),
      ...rest,
      post_processor: surround(
        adds.bos ? named.bos_token : undefined,
        adds.eos ? named.eos_token : undefined,
        vocabulary,
      ),
    },
    "tokenizer_config.json": {
      ...named,
      add_bos_token: adds.bos,
      add_eos_token: adds.eos,
      clean_up_tokenization_spaces: false,
      ...(context === undefined ? {} : { model_max_length: context }),
      tokenizer_class: "PreTrainedTokenizerFast",
      ...(template === undefined ? {} : { chat_template: template }),
    },
  };
}

/** One text; or a list of {name, template} if the file has several, whose names it lists separately. */
function chatTemplates(metadata: Metadata): unknown {
  const plain = metadata["tokenizer.chat_template"];
  const names = metadata["tokenizer.chat_templates"];
  const others = (Array.isArray(names) ? names : [])
    .map((name) => ({ name: String(name), template: metadata[`tokenizer.chat_template.${String(name)}`] }))
    .filter(({ name, template }) => name !== "default" && typeof template === "string");
  if (others.length === 0) return plain;
  return plain === undefined ? others : [{ name: "default", template: plain }, ...others];
}

function readVocabulary(metadata: Metadata, path: string): Vocabulary {
  const tokens = list<string>(metadata, "tokens", path);
  if (!tokens)
    throw new UserError(
      `${path}: "tokenizer.ggml.tokens" is missing, so the file has no tokenizer. Use a file that has one.`,
    );
  const kinds =
    list<number>(metadata, "token_type", path, tokens.length) ?? new Array<number>(tokens.length).fill(NORMAL);
  // Tokens that only fill up the embedding are in no released tokenizer.json.
  const ids = Object.fromEntries(
    tokens.map((token, id) => [token, id]).filter((_, id) => kinds[id] !== UNUSED),
  ) as Record<string, number>;
  return { tokens, kinds, ids };
}

function list<T extends string | number>(
  metadata: Metadata,
  name: string,
  path: string,
  length?: number,
): T[] | undefined {
  const key = `tokenizer.ggml.${name}`;
  const value = metadata[key];
  if (value === undefined) return undefined;
  if (Array.isArray(value) && (length === undefined || value.length === length)) return value as T[];
  const found = Array.isArray(value) ? `has ${value.length} elements` : `is ${excerpt(value)}`;
  throw new UserError(
    `${path}: "${key}" ${found} (expected a list${length === undefined ? "" : ` of ${length}, as many as tokens`}).`,
  );
}

interface Parts {
  normalizer: object | null;
  pre_tokenizer: object | null;
  decoder: object;
  model: object;
  addBos: boolean;
}

const BPE = { type: "BPE", dropout: null, continuing_subword_prefix: null, end_of_word_suffix: null };

function byteLevel({ ids }: Vocabulary, metadata: Metadata, path: string): Parts {
  const { normalizer, pre_tokenizer, ignoreMerges, addBos } = preTokenization(metadata["tokenizer.ggml.pre"], path);
  const merges = list<string>(metadata, "merges", path);
  if (!merges) throw new UserError(`${path}: "tokenizer.ggml.merges" is missing, which a gpt2 tokenizer needs.`);
  return {
    normalizer,
    pre_tokenizer,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      ...BPE,
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: ignoreMerges,
      vocab: ids,
      merges,
    },
    addBos: ask(metadata, "add_bos_token", addBos),
  };
}

function sentencePiece(vocabulary: Vocabulary, metadata: Metadata, path: string): Parts {
  const { tokens, kinds, ids } = vocabulary;
  const scores = list<number>(metadata, "scores", path, tokens.length);
  const merges = list<string>(metadata, "merges", path) ?? (scores && mergesOf(vocabulary, scores));
  if (!merges) throw new UserError(`${path}: "tokenizer.ggml.scores" is missing, which a llama tokenizer needs.`);
  const spaced = ask(metadata, "add_space_prefix", true);
  const spaces = { type: "Replace", pattern: { String: " " }, content: SPACE };
  return {
    normalizer: { type: "Sequence", normalizers: spaced ? [{ type: "Prepend", prepend: SPACE }, spaces] : [spaces] },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: SPACE }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(spaced ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      ...BPE,
      unk_token: tokens[kinds.indexOf(UNKNOWN)] ?? null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: ids,
      merges,
    },
    addBos: ask(metadata, "add_bos_token", true),
  };
}

const ask = (metadata: Metadata, name: string, fallback: boolean): boolean =>
  (metadata[`tokenizer.ggml.${name}`] ?? fallback) as boolean;

/**
 * Every way to join two pieces to a third, best score of the result first. SentencePiece's BPE joins the neighbours
 * whose result scores highest, and merges in this order do the same.
 */
function mergesOf({ tokens, kinds, ids }: Vocabulary, scores: number[]): [string, string][] {
  const found: { left: number; right: number; made: number }[] = [];
  const pieceAt = (text: string): number | undefined => {
    const id = Object.hasOwn(ids, text) ? ids[text] : undefined;
    return id !== undefined && kinds[id] === NORMAL ? id : undefined;
  };
  for (const [made, token] of tokens.entries()) {
    if (pieceAt(token) !== made) continue;
    // Cuts between characters, not between the two UTF-16 units of one.
    let cut = 0;
    for (const character of token) {
      cut += character.length;
      const [left, right] = [pieceAt(token.slice(0, cut)), pieceAt(token.slice(cut))];
      if (left !== undefined && right !== undefined) found.push({ left, right, made });
    }
  }
  found.sort((a, b) => scores[b.made] - scores[a.made] || a.made - b.made || a.left - b.left || a.right - b.right);
  return found.map(({ left, right }) => [tokens[left], tokens[right]]);
}

/** bos_token, eos_token and so on, as far as the file names them. */
function specialTokens(metadata: Metadata, { tokens }: Vocabulary, path: string): Record<string, string> {
  const named: Record<string, string> = {};
  for (const [name, key] of Object.entries({ bos: "bos", eos: "eos", unk: "unknown", pad: "padding" })) {
    const id = metadata[`tokenizer.ggml.${key}_token_id`];
    if (id === undefined) continue;
    if (tokens[id as number] === undefined) {
      throw new UserError(
        `${path}: "tokenizer.ggml.${key}_token_id" is ${excerpt(id)} (expected one of ${tokens.length} tokens). The file is damaged.`,
      );
    }
    named[`${name}_token`] = tokens[id as number];
  }
  return named;
}

/** Tokens that are found in a text before all others; special ones are left out of decoded text. */
function addedTokens({ tokens, kinds, ids }: Vocabulary, named: string[]): object[] {
  const always = new Set(named.map((token) => ids[token]));
  return tokens.flatMap((content, id) => {
    const special = kinds[id] === CONTROL || kinds[id] === UNKNOWN || always.has(id);
    if (!special && kinds[id] !== USER_DEFINED) return [];
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
  });
}

/** A template that puts a token before or after a text, as the file asks for. */
function surround(before: string | undefined, behind: string | undefined, { ids }: Vocabulary): object | null {
  if (before === undefined && behind === undefined) return null;
  const token = (id: string, type_id: number): object => ({ SpecialToken: { id, type_id } });
  const around = (id: "A" | "B", type_id: number): object[] => [
    ...(before === undefined ? [] : [token(before, type_id)]),
    { Sequence: { id, type_id } },
    ...(behind === undefined ? [] : [token(behind, type_id)]),
  ];
  const used = [before, behind].filter((each) => each !== undefined);
  return {
    type: "TemplateProcessing",
    single: around("A", 0),
    pair: [...around("A", 0), ...around("B", 1)],
    special_tokens: Object.fromEntries(used.map((id) => [id, { id, ids: [ids[id]], tokens: [id] }])),
  };
}
