// Rows that are tokens already: input_ids, with labels (-100: not trained) or a mask (1: trained); without these, all
// are trained. Tokens that attention_mask leaves out are padding, and are removed.
import { UserError } from "../../errors.js";
import { describe } from "../rows.js";
import { fromJsonText } from "./fields.js";
import type { RowKind } from "./row-kind.js";

/** Columns that say what is trained; the first that a row has counts. */
const MASKS = ["labels", "completion_mask", "assistant_masks", "loss_mask"];
const UNTRAINED = -100;
const LARGEST_ID = 2 ** 31 - 1;

export const tokens: RowKind = {
  makes: ["tokens"],
  needs: [["input_ids"]],
  reads: [...MASKS, "attention_mask"],
  readSample({ value, place }) {
    const ids = readNumbers(value.input_ids, "input_ids", place);
    const bad = ids.find((id) => id < 0 || id > LARGEST_ID);
    if (bad !== undefined)
      throw new UserError(`${place}: input_ids has ${bad} (expected numbers of tokens, from 0 on).`);
    const [key, ...others] = MASKS.filter((each) => value[each] !== undefined && value[each] !== null);
    if (others.length > 0)
      throw new UserError(`${place}: ${key} and ${others[0]} both say what is trained. Remove one of the two.`);
    const said = key === undefined ? undefined : beside(value, key, ids, place);
    const shown =
      value.attention_mask === undefined || value.attention_mask === null
        ? undefined
        : beside(value, "attention_mask", ids, place);
    const trained = ids.map((id, i) =>
      said === undefined ? 1 : key === "labels" ? byLabel(said[i], id, i, place) : said[i],
    );
    const kept = ids.map((_, i) => i).filter((i) => shown === undefined || shown[i] === 1);
    return {
      kind: "tokens",
      ids: Int32Array.from(kept, (i) => ids[i]),
      trained: Uint8Array.from(kept, (i) => trained[i]),
    };
  },
};

function byLabel(label: number, id: number, i: number, place: string): number {
  if (label === UNTRAINED) return 0;
  if (label === id) return 1;
  throw new UserError(
    `${place}: labels[${i}] is ${label} and input_ids[${i}] is ${id} (expected the same, or ${UNTRAINED}). Labels stand at the token ` +
      "itself, not before it.",
  );
}

/** A list as long as the ids; its values are 0 and 1, unless they are labels. */
function beside(value: Record<string, unknown>, key: string, ids: number[], place: string): number[] {
  const list = readNumbers(value[key], key, place);
  if (list.length !== ids.length)
    throw new UserError(`${place}: ${key} has ${list.length} entries (expected ${ids.length}, as input_ids has).`);
  const bad = key === "labels" ? undefined : list.find((each) => each !== 0 && each !== 1);
  if (bad !== undefined) throw new UserError(`${place}: ${key} has ${bad} (expected 0 and 1).`);
  return list;
}

function readNumbers(value: unknown, key: string, place: string): number[] {
  const list = fromJsonText(value);
  if (!Array.isArray(list)) throw new UserError(`${place}: ${key} is ${describe(list)} (expected a list of numbers).`);
  const numbers = list.map((item: unknown) => (typeof item === "boolean" ? Number(item) : item));
  const bad = numbers.findIndex((item) => !Number.isSafeInteger(item));
  if (bad >= 0) throw new UserError(`${place}: ${key}[${bad}] is ${describe(numbers[bad])} (expected a whole number).`);
  return numbers as number[];
}
