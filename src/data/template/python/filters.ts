// Filters as in jinja2, where the template library's own differ in what they print, take or refuse. Lengths are in
// characters, values are printed as in Python before they are joined or trimmed, and names and order of arguments are
// Python's.
import { boundIndent } from "../bounds.js";
import { capitalize, linesOf, pairsOf, strip } from "./methods.js";
import { toJson } from "./json.js";
import { dictOf, floatOf, hasKeys, integerOf, isDict, isInteger, isList, isNone, isText, isTrue } from "./values.js";
import { isUndefined, itemsOf, listOf, numberOf, str, textOf, typeOf, UNDEFINED, type Value } from "./values.js";

/** Arguments of a filter, by the names of its parameters. */
type Arguments = Partial<Record<string, Value>>;
interface Filter {
  parameters?: string[];
  apply: (value: Value, given: Arguments) => Value;
}

const given = (value: Value | undefined): boolean => value !== undefined && !isNone(value);

function indent(value: Value, { width, first, blank }: Arguments): Value {
  if (width !== undefined && !isText(width)) boundIndent(Number(numberOf(width)));
  const before = width === undefined ? "    " : isText(width) ? width.value : " ".repeat(Number(numberOf(width)));
  if (!isText(value)) throw new Error(`indent is applied to '${typeOf(value)}'`);
  const [head, ...lines] = linesOf(`${value.value}\n`);
  const all = blank !== undefined && isTrue(blank);
  const begin = first !== undefined && isTrue(first) ? before : "";
  return textOf([begin + head, ...lines.map((line) => (all || line !== "" ? before + line : line))].join("\n"));
}

/** Differs from str.title(): in jinja2 a word begins only after blanks, hyphens and brackets. */
const titled = (text: string): string =>
  text
    .split(/([-\s({[<]+)/)
    .map(capitalize)
    .join("");

function count(value: Value): Value {
  if (isText(value)) return integerOf(Array.from(value.value).length);
  if (isDict(value)) return integerOf(value.value.size);
  if (isList(value) || isUndefined(value)) return integerOf(itemsOf(value).length);
  throw new Error(`object of type '${typeOf(value)}' has no len()`);
}

function replace(value: Value, { old, new: other, count: times }: Arguments): Value {
  const text = textOf(str(value));
  if (old === undefined || other === undefined) throw new Error("replace takes what to replace, and by what");
  const args = [textOf(str(old)), textOf(str(other)), ...(given(times) ? [times!] : [])];
  return (text.builtins.get("replace")!.value as (args: Value[]) => Value)(args);
}

function integer(value: Value, { default: usual }: Arguments): Value {
  const number = numberOf(value);
  if (isUndefined(value)) throw new Error("int is applied to what is undefined");
  if (number !== undefined && isInteger(value)) return value;
  if (number !== undefined && Number.isFinite(Number(number))) return integerOf(BigInt(Math.trunc(Number(number))));
  const digits = isText(value) ? strip(value.value, "strip").replaceAll(/(?<=\d)_(?=\d)/g, "") : "";
  if (/^[+-]?\d+$/.test(digits)) return integerOf(BigInt(digits.replace("+", "")));
  const float = isText(value) ? parseFloatText(value.value) : undefined;
  return float === undefined || !Number.isFinite(float)
    ? (usual ?? integerOf(0))
    : integerOf(BigInt(Math.trunc(float)));
}

function parseFloatText(text: string): number | undefined {
  const digits = strip(text, "strip");
  return /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(digits) ? Number(digits) : undefined;
}

function join(value: Value, { d, attribute }: Arguments): Value {
  const of = (item: Value): Value =>
    given(attribute) && hasKeys(item) ? (item.value.get(str(attribute!)) ?? UNDEFINED) : item;
  return textOf(
    itemsOf(value)
      .map((item) => str(of(item)))
      .join(d === undefined ? "" : str(d)),
  );
}

function items(value: Value): Value {
  if (isUndefined(value)) return listOf([]);
  if (!isDict(value)) throw new Error("Can only get item pairs from a mapping.");
  return listOf(pairsOf(value.value));
}

const onText =
  (change: (text: string) => string): Filter["apply"] =>
  (value) =>
    textOf(change(str(value)));

const FILTERS: Record<string, Filter> = {
  tojson: {
    parameters: ["ensure_ascii", "indent", "separators", "sort_keys"],
    apply: (value, named) => textOf(toJson(value, named)),
  },
  string: { apply: onText((text) => text) },
  safe: { apply: onText((text) => text) },
  upper: { apply: onText((text) => text.toUpperCase()) },
  lower: { apply: onText((text) => text.toLowerCase()) },
  capitalize: { apply: onText(capitalize) },
  title: { apply: onText(titled) },
  trim: {
    parameters: ["chars"],
    apply: (value, { chars }) => textOf(strip(str(value), "strip", given(chars) ? str(chars!) : undefined)),
  },
  length: { apply: count },
  count: { apply: count },
  list: { apply: (value) => listOf([...itemsOf(value)]) },
  first: { apply: (value) => itemsOf(value)[0] ?? UNDEFINED },
  last: { apply: (value) => itemsOf(value).at(-1) ?? UNDEFINED },
  reverse: {
    apply: (value) =>
      isText(value) ? textOf(Array.from(value.value).reverse().join("")) : listOf([...itemsOf(value)].reverse()),
  },
  join: { parameters: ["d", "attribute"], apply: join },
  replace: { parameters: ["old", "new", "count"], apply: replace },
  items: { apply: items },
  int: { parameters: ["default"], apply: integer },
  float: {
    parameters: ["default"],
    apply: (value, { default: usual }) => {
      if (isUndefined(value)) throw new Error("float is applied to what is undefined");
      const number = isText(value) ? parseFloatText(value.value) : numberOf(value);
      return number === undefined ? (usual ?? floatOf(0)) : floatOf(Number(number));
    },
  },
  abs: {
    apply: (value) => {
      const number = numberOf(value);
      if (number === undefined) throw new Error(`bad operand type for abs(): '${typeOf(value)}'`);
      const size = number < 0 ? -number : number;
      return value.type === "FloatValue" ? floatOf(Number(size)) : integerOf(size);
    },
  },
  default: { parameters: ["default_value", "boolean"], apply: usually },
  d: { parameters: ["default_value", "boolean"], apply: usually },
  indent: { parameters: ["width", "first", "blank"], apply: indent },
  dictsort: { apply: (value) => items(sortedByKey(value)) },
};

function usually(value: Value, { default_value: usual, boolean }: Arguments): Value {
  const isMissing = isUndefined(value) || (boolean !== undefined && isTrue(boolean) && !isTrue(value));
  return isMissing ? (usual ?? textOf("")) : value;
}

/** jinja2's default: ignores case. */
function sortedByKey(value: Value): Value {
  if (!isDict(value)) throw new Error(`'${typeOf(value)}' object has no attribute 'items'`);
  const keyed = [...value.value].map((entry) => ({ entry, key: entry[0].toLowerCase() }));
  keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return dictOf(new Map(keyed.map(({ entry }) => entry)));
}

/** The result of a filter; undefined if it is left to the library. */
export function filtered(name: string, value: Value, args: Value[], named: Map<string, Value>): Value | undefined {
  const filter = Object.hasOwn(FILTERS, name) ? FILTERS[name] : undefined;
  if (filter === undefined || (name === "dictsort" && args.length + named.size > 0)) return undefined;
  const { parameters = [], apply } = filter;
  const unknown = [...named.keys()].find((each) => !parameters.includes(each));
  if (unknown !== undefined || args.length > parameters.length)
    throw new Error(`the filter ${name} does not take ${unknown ?? `${args.length} arguments`}`);
  return apply(value, {
    ...Object.fromEntries(args.map((arg, i) => [parameters[i], arg])),
    ...Object.fromEntries(named),
  });
}
