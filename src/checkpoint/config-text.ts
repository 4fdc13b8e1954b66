// The text of a saved config.json: the source's own text with only the differing values replaced, so all else stays as
// it was, even the spelling of numbers (strict readers distinguish 1.0 and 1). An export adds keys at its end.
import { isDeepStrictEqual } from "node:util";

import { FAMILIES } from "../families/registry.js";
import type { DType } from "../torch/tensor.js";
import type { ModelFiles } from "./model-files.js";
import { textConfig, withTextConfig } from "./config/text-config.js";

type Json = Record<string, unknown>;

const DTYPE_KEYS = ["torch_dtype", "dtype"];
const WHOLE_KEYS = [
  "vocab_size",
  ...["num_experts", "num_local_experts", "original_max_position_embeddings"],
  ...["streamFractionBits", "blocksPerStep", "ordinaryFirst", "ordinaryLast"],
];

/** The dtype of weights that are not there, as config.json states it. */
export function statedDtype(config: Json): DType {
  const stated = [config, textConfig(config)].flatMap(({ dtype, torch_dtype }) => dtype ?? torch_dtype ?? []);
  return stated[0] === "bfloat16" ? "bfloat16" : "float32";
}

/**
 * config.json for weights of `dtype`, with the keys `added`: the text in `files`, edited, if its meaning is then that
 * of `source`; else `source` written anew.
 */
export function configText(files: ModelFiles, source: Json, dtype: DType, added: Json = {}): string {
  const exchangedIn = (config: Json): Json =>
    Object.fromEntries(DTYPE_KEYS.filter((key) => Object.hasOwn(config, key)).map((key) => [key, dtype]));
  const exchanged = exchangedIn(source);
  const appended = Object.keys(exchanged).length > 0 ? added : { [DTYPE_KEYS[0]]: dtype, ...added };
  const wanted = { ...withTextConfig(source, exchangedIn(textConfig(source))), ...exchanged, ...appended };
  const bytes = files.readFile("config.json");
  const edited = bytes ? edit(Buffer.from(bytes).toString("utf8"), wanted) : "";
  return saysTheSame(edited, wanted) ? edited : jsonText(wanted);
}

/** A JSON object with some keys changed. If possible, all else stays as it was written. */
export function jsonWith(text: string, changes: Json): string {
  const wanted = { ...parse(text), ...changes };
  const edited = edit(text, wanted);
  return saysTheSame(edited, wanted) ? edited : jsonText(wanted);
}

/**
 * `text` with plain values replaced, keys removed and keys added; the caller checks whether the result is what was
 * wanted.
 */
function edit(text: string, wanted: Json): string {
  const stated = parse(text);
  let edited = text;
  for (const [key, value] of Object.entries(stated)) {
    if (isDeepStrictEqual(value, wanted[key]) || !/^\w+$/.test(key)) continue;
    edited = Object.hasOwn(wanted, key)
      ? edited.replace(
          new RegExp(`("${key}"\\s*:\\s*)("[^"]*"|null|\\d+(?=\\s*[,}])|\\[[^[\\]]*\\]|\\{[^{}]*\\})`),
          (_, start: string) => start + spell(wanted[key], key),
        )
      : edited.replace(new RegExp(`,\\s*"${key}"\\s*:\\s*(\\{[^{}]*\\}|"[^"]*"|null)`), "");
  }
  const lines = Object.entries(wanted)
    .filter(([key]) => !Object.hasOwn(stated, key))
    .map(([key, value]) => `,\n  ${JSON.stringify(key)}: ${spell(value, key)}`);
  return lines.length > 0 ? edited.replace(/\s*\}\s*$/, `${lines.join("")}\n}\n`) : edited;
}

/**
 * Keys that transformers 4 needs in a config.json of transformers 5; without them it silently takes its defaults, or
 * fails: `rope_theta`, `rope_scaling` and `partial_rotary_factor` beside `rope_parameters`, `rope_type` beside the older
 * `type`, and the number of experts under the family's own key. Empty if the file has them. transformers 5 reads the
 * same from both forms.
 */
export function olderKeys(source: Json): Json {
  const added: Json = {};
  const own = FAMILIES.find(({ modelType }) => modelType === source.model_type)?.expertsKeyIn4;
  const count = source.num_experts ?? source.num_local_experts;
  if (own !== undefined && source[own] === undefined && count !== undefined) added[own] = count;
  const rope = blockOf(source.rope_scaling) ?? (source.rope_scaling === undefined && blockOf(source.rope_parameters));
  if (!rope) return added;
  const { rope_theta: theta, ...scaling } = rope;
  const share = scaling.partial_rotary_factor;
  if (share !== undefined && source.partial_rotary_factor === undefined) added.partial_rotary_factor = share;
  if (source.rope_scaling !== undefined) {
    if (rope.rope_type === undefined && rope.type !== undefined) added.rope_scaling = { rope_type: rope.type, ...rope };
    return added;
  }
  if (theta !== undefined && source.rope_theta === undefined) added.rope_theta = theta;
  // Of a longrope block without a factor, transformers 4 looks for the original length at the top.
  const length = scaling.original_max_position_embeddings;
  if (scaling.rope_type === "longrope" && scaling.factor === undefined && length !== undefined) {
    added.original_max_position_embeddings = source.original_max_position_embeddings ?? length;
  }
  added.rope_scaling = (scaling.rope_type ?? "default") === "default" ? null : scaling;
  return added;
}

const blockOf = (value: unknown): Json | null => (typeof value === "object" && value !== null ? (value as Json) : null);

/** Like JSON.stringify, but keeps the point that distinguishes a float from a whole number. */
function spell(value: unknown, key: string): string {
  if (Array.isArray(value)) return `[${value.map((item) => spell(item, key)).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    const fields = Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${spell(item, name)}`);
    return `{ ${fields.join(", ")} }`;
  }
  return Number.isInteger(value) && !WHOLE_KEYS.includes(key) ? (value as number).toFixed(1) : JSON.stringify(value);
}

/** Keys whose numbers are floats, for strict readers that distinguish 1.0 and 1. */
const WHOLE_FLOATS = /("(?:rope_theta|(?:\w+_)?factor|beta_fast|beta_slow|clip_qkv)": \d+)(?=[,\n])/g;

/** The text of a JSON file that has no original text, with config.json's floats written as floats. */
export const jsonText = (content: object): string =>
  `${JSON.stringify(content, null, 2).replace(WHOLE_FLOATS, "$1.0")}\n`;

const saysTheSame = (text: string, wanted: Json): boolean => isDeepStrictEqual(parse(text), wanted);

function parse(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return {};
  }
}
