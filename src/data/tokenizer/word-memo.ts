// Remembers what the tokenizer library made of a word. The library itself keeps ten thousand words, but moves a word to
// the end of its list at each use, which takes as long as all other work; and it spells every word in bytes anew.
import type { Tokenizer as JsonTokenizer } from "@huggingface/tokenizers";

/** About 20 MB of words. */
const MOST_WORDS = 1 << 17;
/** Longer words hardly repeat. */
const LONGEST = 64;

/** When it is full, it begins anew, which costs less than tracking which word was used last. */
class Memo<Value> {
  private readonly values = new Map<string, Value>();

  get(word: string): Value | undefined {
    return this.values.get(word);
  }

  put(word: string, value: Value): void {
    if (this.values.size === MOST_WORDS) this.values.clear();
    this.values.set(word, value);
  }

  clear(): void {
    this.values.clear();
  }
}

/** What is used here of the library's parts. */
interface Part {
  config?: { type?: string };
  tokenizers?: (Part | null)[];
  add_prefix_space?: boolean;
  use_regex?: boolean;
  pre_tokenize(text: string | string[], options: unknown): string[];
}

/** Adds memory to a tokenizer; it encodes every text as before. */
export function rememberWords(tokenizer: JsonTokenizer): void {
  const model = tokenizer.model as unknown as { cache?: unknown };
  if (model.cache !== undefined) model.cache = new Memo<string[]>();
  const whole = tokenizer.pre_tokenizer as unknown as Part | null;
  for (const part of [whole, ...(whole?.tokenizers ?? [])]) if (part && spellsWords(part)) rememberSpelling(part);
}

/** Whether a part spells bytes as letters, word by word: then the result depends on the word alone. */
const spellsWords = ({ config, use_regex, add_prefix_space }: Part): boolean =>
  config?.type === "ByteLevel" && use_regex === false && add_prefix_space === false;

function rememberSpelling(part: Part): void {
  const spelled = new Memo<string>();
  const spell = part.pre_tokenize.bind(part);
  part.pre_tokenize = (text, options) => {
    if (typeof text === "string") return spell(text, options);
    return text.map((word) => {
      const known = spelled.get(word);
      if (known !== undefined) return known;
      const [made] = spell([word], options);
      if (word.length <= LONGEST) spelled.put(word, made);
      return made;
    });
  };
}
