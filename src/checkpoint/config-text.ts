// The text of a saved config.json: the source's own text with the stated dtype exchanged, so that nothing else changes,
// not even how a number is written (readers that check types strictly tell 1.0 from 1).
import { isDeepStrictEqual } from "node:util";

import type { DType } from "../torch/tensor.js";
import type { ModelFiles } from "./source.js";

const DTYPE_KEYS = ["torch_dtype", "dtype"];

/**
 * config.json for weights of `dtype`: the text in `files` if it says the same as `source`, else `source` written
 * out.
 */
export function configText(files: ModelFiles, source: Record<string, unknown>, dtype: DType): string {
  const used = DTYPE_KEYS.filter((key) => Object.hasOwn(source, key));
  const stated = Object.fromEntries((used.length > 0 ? used : DTYPE_KEYS.slice(0, 1)).map((key) => [key, dtype]));
  const wanted = { ...source, ...stated };
  const bytes = files.readFile("config.json");
  if (bytes) {
    const text = Buffer.from(bytes).toString("utf8");
    const edited =
      used.length > 0
        ? text.replaceAll(/("(?:torch_dtype|dtype)"\s*:\s*)("[^"]*"|null)/g, (_, key: string) => `${key}"${dtype}"`)
        : text.replace(/\s*\}\s*$/, `,\n  "${DTYPE_KEYS[0]}": "${dtype}"\n}\n`);
    if (saysTheSame(edited, wanted)) return edited;
  }
  return jsonText(wanted);
}

/** Keys whose numbers are floats: readers that check types strictly tell 1.0 from 1. */
const WHOLE_FLOATS = /("(?:rope_theta|(?:\w+_)?factor|beta_fast|beta_slow|clip_qkv)": \d+)(?=[,\n])/g;

/** A JSON file that no text was given for, with the floats of a config.json as floats. */
export const jsonText = (content: object): string => `${JSON.stringify(content, null, 2).replace(WHOLE_FLOATS, "$1.0")}\n`;

function saysTheSame(text: string, wanted: Record<string, unknown>): boolean {
  try {
    return isDeepStrictEqual(JSON.parse(text), wanted);
  } catch {
    return false;
  }
}
