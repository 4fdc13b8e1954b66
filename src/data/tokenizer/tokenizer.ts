// The tokenizer of a model. tokenizer.json does the work; the files beside it have the chat templates, and say which
// tokens begin and end a text. Nothing is added to a text: the caller, who knows what begins and ends, adds those
// tokens.
import { join } from "node:path";
import { UserError } from "../../errors.js";
import { type BoundedTokenizer, openTokenizer } from "./bounded-tokenizer.js";
import { findTemplates, plainTemplate } from "./chat-templates.js";
import { folderFiles, type Json, readObject, type TokenizerFiles } from "./files.js";
import { namedTokens } from "./special-tokens.js";
import { quoted } from "../limits.js";

export type { TokenizerFiles } from "./files.js";

export interface Tokenizer {
  /**
   * Token ids of a text; special tokens written in it become their ids, and none are added. With `after`, the text
   * before it, the ids are those of a continuation: some tokenizers put a space only before a text that begins.
   */
  encode(text: string, after?: string): number[];
  /** The text of ids; special tokens and ids beyond the vocabulary are left out. */
  decode(ids: ArrayLike<number>): string;
  /** The token of an id as tokenizer.json spells it; undefined if there is none. */
  nameOf(id: number): string | undefined;
  /** The id of a token as tokenizer.json spells it; undefined if there is none. */
  idOf(token: string): number | undefined;
  /** One more than the largest id. */
  vocabSize: number;
  eosId: number | undefined;
  bosId: number | undefined;
  /** Whether a text on its own begins with the beginning-of-text token. */
  addBos: boolean;
  /** The template named default, or the only one; for conversations without tools. */
  chatTemplate: string | undefined;
  /** All templates by name, as "default", "tool_use", "rag". */
  chatTemplates: Record<string, string>;
  /** Special tokens by the names that chat templates use: bos_token, eos_token and so on. */
  specialTokens: Record<string, string>;
}

/** Files beside tokenizer.json may be missing. Errors: UserError without tokenizer.json, or for a malformed file. */
export function loadTokenizer(from: TokenizerFiles | string): Tokenizer {
  const files = typeof from === "string" ? folderFiles(from) : from;
  const path = join(files.path, "tokenizer.json");
  const json = readObject(files, "tokenizer.json");
  if (!json) {
    throw new UserError(
      `${files.path}: there is no tokenizer.json. Copy it from the model's original folder, or save it with ` +
        `AutoTokenizer.from_pretrained(...).save_pretrained("${files.path}").`,
    );
  }
  const config = readObject(files, "tokenizer_config.json")?.value ?? {};
  const tokenizer = openTokenizer(json.value, config, path, json.bytes);
  const { inner } = tokenizer;
  const named = namedTokens(files, config);
  const idOf = (name: string): number | undefined => {
    const token = named.get(name);
    if (token === undefined) return undefined;
    const id = inner.token_to_id(token.content);
    if (id !== undefined) return id;
    throw new UserError(
      `${token.path}: ${name} is "${quoted(token.content)}", which is not in the vocabulary of tokenizer.json.`,
    );
  };
  const bosId = idOf("bos_token");
  const addsBos = config.add_bos_token ?? tokenizer.encode("a", true)[0] === bosId;
  const encode = continuingEncoder(tokenizer, json.value, path);
  const chatTemplates = findTemplates(files, config);
  return {
    encode,
    decode: (ids) => {
      const known = Array.from(ids).filter((id) => inner.id_to_token(id) !== undefined);
      if (known.length === 0) return "";
      return tokenizer.decode(known, config.clean_up_tokenization_spaces === true);
    },
    nameOf: (id) => inner.id_to_token(id),
    idOf: (token) => inner.token_to_id(token),
    vocabSize: tokenizer.vocabSize,
    eosId: idOf("eos_token"),
    bosId,
    addBos: bosId !== undefined && addsBos === true,
    chatTemplate: plainTemplate(chatTemplates),
    chatTemplates,
    specialTokens: Object.fromEntries([...named].map(([name, { content }]) => [name, content])),
  };
}

// The last one is a token of its own where bytes stand for unknown letters, and merges with nothing.
const GUARDS = ["\n", ".", "\u0001"];

/**
 * Encodes a continuation. A tokenizer may put a space before each text, and a special token may swallow the blanks
 * after it. So the continuation is encoded after a short text, whose ids are then cut off: the special token that
 * really comes before, or a sign that merges with nothing.
 */
function continuingEncoder(tokenizer: BoundedTokenizer, json: Json, path: string): Tokenizer["encode"] {
  const plain = (text: string): number[] => {
    const ids = tokenizer.encode(text, false);
    if (!ids.includes(undefined)) return ids as number[];
    const part = quoted(text.slice(0, 40));
    throw new UserError(`${path}: no token for a part of the text "${part}", and the vocabulary has no unknown token.`);
  };
  const spaces = putsSpace(json);
  const added = [...tokenizer.inner.get_added_tokens_decoder().values()];
  const swallowing = added.filter(({ rstrip }) => spaces || rstrip).map(({ content }) => content);
  return (text, after = "") => {
    if (after === "" || text === "") return plain(text);
    const special = swallowing.find((token) => after.endsWith(token));
    const guards = special !== undefined ? [special] : spaces ? GUARDS : [];
    for (const guard of guards) {
      const head = plain(guard);
      const ids = plain(guard + text);
      if (head.every((id, i) => ids[i] === id)) return ids.slice(head.length);
    }
    return plain(text);
  };
}

/** Whether a part of tokenizer.json puts a space before a text. */
function putsSpace(json: Json): boolean {
  const left: unknown[] = [json];
  while (left.length > 0) {
    const part = left.pop();
    if (Array.isArray(part)) left.push(...part);
    if (typeof part !== "object" || part === null) continue;
    const {
      type,
      add_prefix_space: space,
      prepend_scheme: scheme,
      normalizer,
      normalizers,
      pre_tokenizer,
      pretokenizers,
    } = part as Json;
    if (type === "Prepend") return true;
    if (type === "Metaspace" && (scheme ?? (space === false ? "never" : "always")) !== "never") return true;
    if (type === "ByteLevel" && space === true) return true;
    left.push(normalizer, normalizers, pre_tokenizer, pretokenizers);
  }
  return false;
}
