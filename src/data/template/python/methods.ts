// Methods of texts, lists and objects in a template, by Python's names, with Python's white space. Other methods are
// the template library's own, if it has them.
import { boundSearch } from "../bounds.js";
import { boolOf, callableOf, equal, integerOf, isDict, isInteger, isList, isNone, isText } from "./values.js";
import { listOf, textOf, tupleOf, typeOf, UNDEFINED, type Value } from "./values.js";

/** The characters for which Python's str.isspace() is true. */
const BLANK = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const WORD = `${BLANK.replace("[", "[^")}+`;
const BLANKS = new RegExp(BLANK);
const LINE_END = "\\r\\n|[\\n-\\r\\x1c-\\x1e\\x85\\u2028\\u2029]";

/** Python's strip, lstrip and rstrip: removes blanks, or the letters in `letters`, from both ends or one. */
export function strip(text: string, ends: "strip" | "lstrip" | "rstrip", letters?: string): string {
  const set = letters === undefined ? undefined : new Set(letters);
  const goes = (letter: string): boolean => (set === undefined ? BLANKS.test(letter) : set.has(letter));
  let [start, end] = [0, text.length];
  while (ends !== "rstrip" && start < end) {
    const letter = String.fromCodePoint(text.codePointAt(start)!);
    if (!goes(letter)) break;
    start += letter.length;
  }
  while (ends !== "lstrip" && end > start) {
    const half = /[\uDC00-\uDFFF]/.test(text[end - 1]) && /[\uD800-\uDBFF]/.test(text[end - 2] ?? "") ? 2 : 1;
    if (!goes(text.slice(end - half, end))) break;
    end -= half;
  }
  return text.slice(start, Math.max(start, end));
}

export const capitalize = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1).toLowerCase();

/** Python's str.title(): each run of letters begins with a capital and goes on in small letters. */
export const title = (text: string): string => text.replaceAll(/\p{L}+/gu, capitalize);

/** Python's str.splitlines(). */
export function linesOf(text: string): string[] {
  const lines = text.split(new RegExp(LINE_END));
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

/** Tuples of name and value. */
export const pairsOf = (dict: Map<string, Value>): Value[] =>
  [...dict].map(([key, value]) => tupleOf([textOf(key), value]));

function splitAtBlanks(text: string, times: number): string[] {
  const parts: string[] = [];
  for (const { 0: part, index } of text.matchAll(new RegExp(WORD, "g"))) {
    if (parts.length === times) return [...parts, text.slice(index)];
    parts.push(part);
  }
  return parts;
}

function splitAt(text: string, separator: string, times: number): string[] {
  boundSearch(separator, text);
  if (separator === "") throw new Error("empty separator");
  const parts = text.split(separator);
  return parts.length <= times ? parts : [...parts.slice(0, times), parts.slice(times).join(separator)];
}

type Method<T> = (self: T, ...args: (Value | undefined)[]) => Value;

function wanted(value: Value | undefined): string {
  if (value !== undefined && isText(value)) return value.value;
  throw new Error(`a method of a text is given ${value === undefined ? "nothing" : `'${typeOf(value)}'`} for a text`);
}

const stripping =
  (ends: "strip" | "lstrip" | "rstrip"): Method<string> =>
  (text, letters) =>
    textOf(strip(text, ends, letters === undefined || isNone(letters) ? undefined : wanted(letters)));

const TEXT_METHODS: Record<string, Method<string>> = {
  strip: stripping("strip"),
  lstrip: stripping("lstrip"),
  rstrip: stripping("rstrip"),
  capitalize: (text) => textOf(capitalize(text)),
  title: (text) => textOf(title(text)),
  find: (text, part) => {
    boundSearch(wanted(part), text);
    const found = text.indexOf(wanted(part));
    return integerOf(found < 0 ? found : Array.from(text.slice(0, found)).length);
  },
  count: (text, part) => {
    boundSearch(wanted(part), text);
    if (wanted(part) === "") return integerOf(Array.from(text).length + 1);
    return integerOf(text.split(wanted(part)).length - 1);
  },
  removeprefix: (text, part) => textOf(text.startsWith(wanted(part)) ? text.slice(wanted(part).length) : text),
  removesuffix: (text, part) => {
    const end = wanted(part);
    return textOf(end !== "" && text.endsWith(end) ? text.slice(0, -end.length) : text);
  },
  join: (text, parts) => textOf((parts !== undefined && isList(parts) ? parts.value : []).map(wanted).join(text)),
  splitlines: (text) => listOf(linesOf(text).map(textOf)),
  split: (text, ...args) => {
    const [separator, most] = inOrder(args as Value[], ["sep", "maxsplit"]);
    const times = most === undefined || Number(most.value) < 0 ? Infinity : Number(most.value);
    const isBlank = separator === undefined || isNone(separator);
    return listOf((isBlank ? splitAtBlanks(text, times) : splitAt(text, wanted(separator), times)).map(textOf));
  },
  rsplit: (text, separator, most) => {
    const part = wanted(separator);
    boundSearch(part, text);
    if (part === "") throw new Error("empty separator");
    const parts = text.split(part);
    const first = most === undefined ? 0 : Math.max(0, parts.length - Number(most.value));
    return listOf([...(first > 0 ? [parts.slice(0, first).join(part)] : []), ...parts.slice(first)].map(textOf));
  },
  isdigit: (text) => boolOf(/^\p{Nd}+$/u.test(text)),
};

const LIST_METHODS: Record<string, Method<Value[]>> = {
  count: (list, item) => integerOf(list.filter((each) => equal(each, item ?? UNDEFINED)).length),
  index: (list, item) => {
    const found = list.findIndex((each) => equal(each, item ?? UNDEFINED));
    if (found < 0) throw new Error("the list does not have what its index is asked for");
    return integerOf(found);
  },
};

const known = <T>(methods: Record<string, Method<T>>, name: string, self: T): Value | undefined =>
  Object.hasOwn(methods, name) ? callableOf((args) => methods[name](self, ...args)) : undefined;

/** The method of this name; undefined if the value has none. */
export function methodOf(value: Value, name: string): Value | undefined {
  if (isList(value)) return known(LIST_METHODS, name, value.value);
  if (isText(value)) {
    return name === "length" ? undefined : (known(TEXT_METHODS, name, value.value) ?? value.builtins.get(name));
  }
  // Other methods that the library gives to objects, such as dictsort, are filters in Python.
  if (!isDict(value)) return undefined;
  if (name === "items") return callableOf(() => listOf(pairsOf(value.value)));
  return ["get", "keys", "values"].includes(name) ? value.builtins.get(name) : undefined;
}

/** Arguments in the order of `names`, given by position or by name; undefined for missing ones. */
function inOrder(args: Value[], names: string[]): (Value | undefined)[] {
  const last = args.at(-1);
  const isNamed = last?.type === "KeywordArgumentsValue";
  const byName = isNamed && isDict(last) ? last.value : new Map<string, Value>();
  const byPlace = isNamed ? args.slice(0, -1) : args;
  return names.map((name, i) => byPlace[i] ?? byName.get(name));
}

/** The place that Python's index, which may be negative, means among `length`; undefined if there is none. */
export function placeOf(index: Value, length: number): number | undefined {
  if (!isInteger(index) && index.type !== "BooleanValue") return undefined;
  const place = Number(index.value);
  const counted = place < 0 ? place + length : place;
  return counted >= 0 && counted < length ? counted : undefined;
}
