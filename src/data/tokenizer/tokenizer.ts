// The tokenizer of a model: tokenizer.json does the work, tokenizer_config.json names the special tokens
// and may hold the chat template, which chat_template.jinja overrides. Nothing is added to a text that it does not
// have: beginning- and end-of-text tokens are put in by the caller, who knows what begins and what ends.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../errors.js";
import { type BoundedTokenizer, openTokenizer } from "./bounded-tokenizer.js";
import { TOKENIZER_LIMITS as LIMITS, quoted } from "../limits.js";
import { describe } from "../rows.js";

export interface Tokenizer {
  /**
   * Token ids of a text; special tokens written in it become their ids, and none are added. With `after`, the text that
   * goes before, the ids are those of a continuation: some tokenizers put a space before a text that begins.
   */
  encode(text: string, after?: string): number[];
  /** The text of ids, special tokens left out; ids beyond the vocabulary are left out, too. */
  decode(ids: ArrayLike<number>): string;
  /** One more than the largest id. */
  vocabSize: number;
  eosId: number | undefined;
  bosId: number | undefined;
  /** Whether a text on its own begins with the beginning-of-text token. */
  addBos: boolean;
  chatTemplate: string | undefined;
  /** Others by their names, as tool_use, where the model has several. */
  chatTemplates: Record<string, string>;
  /** By the names that chat templates use: bos_token, eos_token and so on. */
  specialTokens: Record<string, string>;
}

/** The files of a model by name, wherever they are. */
export interface TokenizerFiles {
  path: string;
  readFile(name: string): Uint8Array | undefined;
}

type Json = Record<string, unknown>;

/** A missing tokenizer_config.json is as an empty one. Errors: UserError without tokenizer.json, or when malformed. */
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
  const configPath = join(files.path, "tokenizer_config.json");
  const config = readObject(files, "tokenizer_config.json")?.value ?? {};
  const tokenizer = openTokenizer(json.value, config, path, json.bytes);
  const { inner } = tokenizer;
  const specialTokens = namedTokens(config);
  const idOf = (name: string): number | undefined => {
    const token = specialTokens[name];
    if (token === undefined) return undefined;
    const id = inner.token_to_id(token);
    if (id === undefined) {
      throw new UserError(
        `${configPath}: ${name} is "${quoted(token)}", which is not in the vocabulary of tokenizer.json.`,
      );
    }
    return id;
  };
  const bosId = idOf("bos_token");
  const addsBos = config.add_bos_token ?? tokenizer.encode("a", true)[0] === bosId;
  const encode = continuingEncoder(tokenizer, json.value, path);
  return {
    encode,
    decode: (ids) => {
      const known = Array.from(ids).filter((id) => inner.id_to_token(id) !== undefined);
      if (known.length === 0) return "";
      return tokenizer.decode(known, config.clean_up_tokenization_spaces === true);
    },
    vocabSize: tokenizer.vocabSize,
    eosId: idOf("eos_token"),
    bosId,
    addBos: bosId !== undefined && addsBos === true,
    chatTemplate: findTemplate(files, config, configPath),
    chatTemplates: {},
    specialTokens,
  };
}

function folderFiles(folder: string): TokenizerFiles {
  return {
    path: folder,
    readFile: (name) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name)) : undefined),
  };
}

function readText(files: TokenizerFiles, name: string): string | undefined {
  const bytes = files.readFile(name);
  if (bytes === undefined || bytes.length <= LIMITS.file) return bytes && Buffer.from(bytes).toString("utf8");
  const path = join(files.path, name);
  throw new UserError(
    `${path}: the file has ${bytes.length} bytes (expected at most ${LIMITS.file}). Fetch it again; no model's is so large.`,
  );
}

function readObject(files: TokenizerFiles, name: string): { value: Json; bytes: number } | undefined {
  const text = readText(files, name);
  if (text === undefined) return undefined;
  const path = join(files.path, name);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(
      `${path}: not valid JSON: ${quoted((error as Error).message)}. The file is damaged or cut short; fetch it again.`,
    );
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return { value: value as Json, bytes: text.length };
  throw new UserError(`${path}: the file holds ${quoted(text).slice(0, 40)} (expected an object).`);
}

function namedTokens(config: Json): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [key, value] of Object.entries(config)) {
    if (!/^(bos|eos|unk|pad|sep|cls|mask)_token$/.test(key)) continue;
    const content = typeof value === "object" && value !== null ? (value as Json).content : value;
    if (typeof content === "string") tokens[key] = content;
  }
  return tokens;
}

function findTemplate(files: TokenizerFiles, config: Json, configPath: string): string | undefined {
  const alone = readText(files, "chat_template.jinja");
  if (alone !== undefined) return alone;
  const given = config.chat_template;
  if (given === undefined || given === null || typeof given === "string") return given ?? undefined;
  const named = Array.isArray(given) ? (given as (Json | null)[]) : [];
  const chosen = named.find((entry) => entry?.name === "default") ?? named[0];
  if (typeof chosen?.template === "string") return chosen.template;
  throw new UserError(
    `${configPath}: chat_template is ${describe(given)} (expected a text, or a list of {"name", "template"}).`,
  );
}

// The last is a byte of its own where bytes stand in for unknown letters, and merges with nothing.
const GUARDS = ["\n", ".", "\u0001"];

/**
 * Encoding that knows how to continue. A tokenizer may put a space before each text, and a special token may swallow
 * the blanks behind it. So the continuation is encoded behind a short text whose ids are then cut off: the special
 * token that really goes before, or else a sign that merges with nothing.
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
