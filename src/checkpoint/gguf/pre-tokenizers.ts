// How a byte-level vocabulary splits text before it merges. A GGUF file gives a name for that, `tokenizer.ggml.pre`,
// and llama.cpp has a pattern for each name. Here each name has the parts of tokenizer.json that its models were
// released with. Other names are refused, since other splits would train on tokens that the model has never seen.
import { excerpt, UserError } from "../../errors.js";

export interface PreTokenization {
  normalizer: object | null;
  pre_tokenizer: object;
  /** Whether a word that is itself a token is taken as a whole, without merges. */
  ignoreMerges: boolean;
  /** Whether a text begins with the beginning-of-text token, if the file does not say it. */
  addBos: boolean;
}

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const WORDS = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
const SIGNS_AND_SPACES = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
/** `SIGNS_AND_SPACES` with slashes after signs. */
const SIGNS_SLASHES_AND_SPACES = SIGNS_AND_SPACES.replace("[\\r\\n]*", "[\\r\\n/]*");
const UPPER = "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}";
const LOWER = "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}";

const split = (pattern: string): object => ({
  type: "Split",
  pattern: { Regex: pattern },
  behavior: "Isolated",
  invert: false,
});
const byteLevel = (useRegex: boolean): object => ({
  type: "ByteLevel",
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
});
const sequence = (...pretokenizers: object[]): object => ({ type: "Sequence", pretokenizers });
const cutBy = (pattern: string): object => sequence(split(pattern), byteLevel(false));

const NFC = { type: "NFC" };
const GPT2: PreTokenization = { normalizer: null, pre_tokenizer: byteLevel(true), ignoreMerges: false, addBos: false };
const SINGLE_DIGITS: PreTokenization = {
  ...GPT2,
  pre_tokenizer: sequence(split("\\p{N}"), byteLevel(true)),
};
const LLAMA3: PreTokenization = {
  normalizer: null,
  pre_tokenizer: cutBy(`${CONTRACTIONS}|${WORDS}|\\p{N}{1,3}|${SIGNS_AND_SPACES}`),
  ignoreMerges: true,
  addBos: true,
};
const QWEN2: PreTokenization = {
  normalizer: NFC,
  pre_tokenizer: cutBy(`${CONTRACTIONS}|${WORDS}|\\p{N}|${SIGNS_AND_SPACES}`),
  ignoreMerges: false,
  addBos: false,
};
const TEKKEN: PreTokenization = {
  ...LLAMA3,
  pre_tokenizer: cutBy(
    `[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]*[${LOWER}]+|[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]+[${LOWER}]*|\\p{N}|${SIGNS_SLASHES_AND_SPACES}`,
  ),
};
/** llama.cpp's default, for files that name nothing better: it splits by one pattern after another. */
const DEFAULT: PreTokenization = {
  ...GPT2,
  pre_tokenizer: sequence(split("[\\p{P}$+<=>^~|]+"), byteLevel(true), split("\\p{N}+"), split("[0-9][0-9][0-9]")),
};

const BY_NAME: Record<string, PreTokenization> = {
  "gpt-2": GPT2,
  default: DEFAULT,
  // The tokenizer of GPT-NeoX, which normalises.
  olmo: { ...GPT2, normalizer: NFC },
  smollm: SINGLE_DIGITS,
  starcoder: SINGLE_DIGITS,
  refact: SINGLE_DIGITS,
  "llama-bpe": LLAMA3,
  llama3: LLAMA3,
  "llama-v3": LLAMA3,
  qwen2: QWEN2,
  "deepseek-r1-qwen": QWEN2,
  tekken: TEKKEN,
};

export function preTokenization(name: unknown, path: string): PreTokenization {
  if (typeof name === "string" && Object.hasOwn(BY_NAME, name)) return BY_NAME[name];
  throw new UserError(
    `${path}: "tokenizer.ggml.pre" is ${excerpt(name)} (expected ${Object.keys(BY_NAME).join(", ")}). ` +
      "Another way of cutting text would give tokens that the model does not know; use the model's Hugging Face folder.",
  );
}
