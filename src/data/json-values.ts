// JSON read without loss, for chat templates that print values as Python does. JavaScript's own reading forgets three
// things, and only where a text has them is the value another than JSON.parse's:
//   an integer beyond 2^53       is a bigint: 9007199254740993n
//   a float that is whole, 10.0  is a JsonFloat, an object that counts as its number: Number(x), x + 1, x > 2
//   keys like "2", "1"           are kept in the text's order by orderedKeys(object); Object.keys has them sorted, in front
// All else reads as ever: value.messages[0].content. JSON.stringify refuses a bigint and forgets the other two, and so does
// structuredClone: send the text to a worker, not the value. A spread keeps the order of keys.

/** A whole number that was written as a float. */
export class JsonFloat extends Number {}

/** Under this name an object that needs it carries its keys in order. */
const ORDER = Symbol("revmoe.keys");
type Ordered = Record<string, unknown> & { [ORDER]?: string[] };

/** Whether a text may hold such a number, or such a key. Found inside strings, too: that costs time alone. */
const UNUSUAL_NUMBER = /(?:^|[[:,])\s*-?(?:[\d.]{16}|\d+\.0+(?!\d)|\d+(?:\.\d+)?[eE])/;
const UNUSUAL_KEY = /"(?:\d|\\u003\d){1,10}"\s*:/;

/** Strings, a key's with its colon, and numbers. */
const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*/gs;
// A Unicode noncharacter before a letter marks what is more than the string that stands there.
const MARK = "\uFDD3";

/** The value of a JSON text, be it a row or a part of one. Errors: SyntaxError, as JSON.parse. */
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

/** The keys in the order of the text, for objects of any origin. */
export function orderedKeys(object: object): string[] {
  const keys = Object.keys(object);
  const written = (object as Ordered)[ORDER];
  if (written === undefined) return keys;
  const known = new Set(written);
  return [...written.filter((key) => Object.hasOwn(object, key)), ...keys.filter((key) => !known.has(key))];
}

/** Whether a number's text is a whole number that JavaScript holds, or a fraction that it does not round to a whole one. */
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
