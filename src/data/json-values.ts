// JSON read without loss, for chat templates that print values as Python does. JavaScript's own parser loses three
// things. Only where a text has them do values differ from those of JSON.parse:
//   an integer beyond 2^53       is a bigint: 9007199254740993n
//   a float that is whole, 10.0  is a JsonFloat, an object that converts to its number: Number(x), x + 1, x > 2
//   keys like "2", "1"           keep the text's order in orderedKeys(object); Object.keys sorts them to the front
// JSON.stringify refuses a bigint and loses the other two, and so does structuredClone: send the text to a worker, not
// the value. A spread keeps the order of keys.

/** A whole number that was written as a float. */
export class JsonFloat extends Number {}

/** The property in which an object that needs it carries its keys in order. */
const ORDER = Symbol("revmoe.keys");
type Ordered = Record<string, unknown> & { [ORDER]?: string[] };

/** Whether a text may hold such a number, or such a key. A match inside a string costs only time. */
const UNUSUAL_NUMBER = /(?:^|[[:,])\s*-?(?:[\d.]{16}|\d+\.0+(?!\d)|\d+(?:\.\d+)?[eE])/;
const UNUSUAL_KEY = /"(?:\d|\\u003\d){1,10}"\s*:/;

/** Matches strings (a key with its colon) and numbers. */
const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*/gs;
// A Unicode noncharacter; with a letter behind it, it marks a string that stands for another value.
const MARK = "\uFDD3";

/** Parses a row or a part of one. Errors: SyntaxError, like JSON.parse. */
export function parseJsonRow(text: string): unknown {
  const plain: unknown = JSON.parse(text);
  if (!UNUSUAL_NUMBER.test(text) && !UNUSUAL_KEY.test(text)) return plain;
  const marked = text.replace(TOKENS, (token: string, string: string | undefined, colon: string | undefined) => {
    if (string === undefined) return isPlain(token) ? token : `"${MARK}n${token}"`;
    const value = JSON.parse(string) as string;
    const isMarked = value.startsWith(MARK) || (colon !== undefined && /^\d{1,10}$/.test(value));
    return isMarked ? `"${MARK}s${string.slice(1)}${colon ?? ""}` : token;
  });
  try {
    return JSON.parse(marked, (_key, value: unknown) => restored(value));
  } catch (error) {
    if (error instanceof RangeError) throw new SyntaxError("values nest too deep");
    throw error;
  }
}

/** An object's keys in the order of the text; works for objects of any origin. */
export function orderedKeys(object: object): string[] {
  const keys = Object.keys(object);
  const written = (object as Ordered)[ORDER];
  if (written === undefined) return keys;
  const known = new Set(written);
  return [...written.filter((key) => Object.hasOwn(object, key)), ...keys.filter((key) => !known.has(key))];
}

/** Whether JavaScript holds a number exactly: a safe whole number, or a fraction that is not rounded to a whole one. */
function isPlain(number: string): boolean {
  const value = Number(number);
  return /[.eE]/.test(number) ? Number.isFinite(value) && !Number.isInteger(value) : Number.isSafeInteger(value);
}

function restored(value: unknown): unknown {
  if (typeof value === "string") return value.startsWith(MARK) ? unmarked(value) : value;
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value);
  if (!entries.some(([key]) => key.startsWith(MARK))) return value;
  const named = entries.map(([key, item]): [string, unknown] => [key.startsWith(MARK) ? key.slice(2) : key, item]);
  const object: Ordered = Object.fromEntries(named);
  object[ORDER] = named.map(([key]) => key);
  return object;
}

function unmarked(text: string): unknown {
  const inner = text.slice(2);
  if (text[1] === "s") return inner;
  return /[.eE]/.test(inner) ? new JsonFloat(inner) : BigInt(inner);
}
