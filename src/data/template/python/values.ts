// Values in a template as in Python: how they print, which are equal, which come first. They are the template library's
// own values, but an integer beyond 2^53 holds a bigint. A row's content is turned into them here, once for each
// rendering, by the rules of json-values.ts.
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { orderedKeys } from "../../json-values.js";

/** The parts of a value that are used here, by the library's names; the library does not export its classes. */
export interface Value {
  type: string;
  value: unknown;
  builtins: ReadonlyMap<string, Value>;
  __bool__(): { value: boolean };
}
export type Scope = InstanceType<typeof Environment>;
/** A function that a template can call. Arguments given by name come last, in a KeywordArgumentsValue. */
export type Callable = (args: Value[], scope: Scope) => Value;
type Make = new (value?: unknown) => Value;

const classOf = (example: unknown): Make => new Environment().set("example", example).constructor as unknown as Make;
const Integer = classOf(1);
const Float = classOf(0.5);
const Text = classOf("");
const Bool = classOf(true);
const List = classOf([]);
const Dict = classOf({});
const Func = classOf(() => 0);
// Only a template can make tuples.
const [pair] = new Template("{{ (1, 2) }}").parsed.body;
const Tuple = new Interpreter().evaluate(pair, new Environment()).constructor as unknown as Make;

export const NONE = new (classOf(null))(null);
export const UNDEFINED = new (classOf(undefined))();
export const textOf = (value: string): Value => new Text(value);
export const boolOf = (value: boolean): Value => new Bool(value);
export const floatOf = (value: number): Value => new Float(value);
export const listOf = (value: Value[]): Value => new List(value);
export const tupleOf = (value: Value[]): Value => new Tuple(value);
export const dictOf = (value: Map<string, Value>): Value => new Dict(value);
export const callableOf = (value: Callable): Value => new Func(value);
/** Holds a bigint only if a number would lose digits. */
export const integerOf = (value: number | bigint): Value =>
  new Integer(typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value) : value);

export const isText = (value: Value): value is Value & { value: string } => value.type === "StringValue";
export const isList = (value: Value): value is Value & { value: Value[] } => Array.isArray(value.value);
/** True for a namespace, too. */
export const hasKeys = (value: Value): value is Value & { value: Map<string, Value> } => value.value instanceof Map;
export const isDict = (value: Value): value is Value & { value: Map<string, Value> } =>
  hasKeys(value) && value.type !== "NamespaceValue";
export const isInteger = (value: Value): boolean => value.type === "IntegerValue";
export const isUndefined = (value: Value): boolean => value.type === "UndefinedValue";
export const isNone = (value: Value): boolean => value.type === "NullValue";
export const isTrue = (value: Value): boolean => value.__bool__().value;

const NAMES: Record<string, string> = {
  IntegerValue: "int",
  FloatValue: "float",
  StringValue: "str",
  BooleanValue: "bool",
  ArrayValue: "list",
  TupleValue: "tuple",
  NullValue: "NoneType",
  UndefinedValue: "Undefined",
  FunctionValue: "function",
};
/** Python's name of a value's type, for messages. */
export const typeOf = ({ type }: Value): string => NAMES[type] ?? "dict";

/** The content of a row or a setting, as a template's value. */
export function toValue(given: unknown): Value {
  if (typeof given === "string") return new Text(given);
  if (typeof given === "boolean") return new Bool(given);
  if (given === null) return NONE;
  if (given === undefined) return UNDEFINED;
  if (typeof given === "bigint") return integerOf(given);
  if (typeof given === "number") return Number.isSafeInteger(given) ? new Integer(given) : new Float(given);
  if (given instanceof Number) return new Float(Number(given));
  if (Array.isArray(given)) return new List(given.map(toValue));
  if (typeof given === "object") {
    const object = given as Record<string, unknown>;
    return new Dict(new Map(orderedKeys(object).map((key) => [key, toValue(object[key])])));
  }
  return new Environment().set("given", given) as unknown as Value;
}

/** Python's str(). */
export function str(value: Value): string {
  return isText(value) ? value.value : isUndefined(value) ? "" : repr(value);
}

/** Python's repr(), which lists use for their items. Errors: for a function, which Python prints with its address. */
function repr(value: Value): string {
  if (isText(value)) return quote(value.value);
  if (isNone(value)) return "None";
  if (value.type === "BooleanValue") return value.value === true ? "True" : "False";
  if (isInteger(value)) return String(value.value);
  if (value.type === "FloatValue") return floatText(value.value as number);
  if (isUndefined(value)) return "Undefined";
  if (isList(value)) {
    const items = value.value.map(repr).join(", ");
    if (value.type !== "TupleValue") return `[${items}]`;
    return value.value.length === 1 ? `(${items},)` : `(${items})`;
  }
  if (hasKeys(value)) {
    const items = [...value.value].map(([key, item]) => `${quote(key)}: ${repr(item)}`).join(", ");
    return value.type === "NamespaceValue" ? `<Namespace {${items}}>` : `{${items}}`;
  }
  throw new Error("a function is printed");
}

/** Python's repr(float): the shortest digits that give this number. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (value === 0) return Object.is(value, -0) ? "-0.0" : "0.0";
  const [digits, exponent] = value.toExponential().split("e");
  const power = Number(exponent);
  if (power >= -4 && power < 16) return Number.isInteger(value) ? `${value}.0` : String(value);
  return `${digits}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

const ESCAPES: Record<string, string> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function quote(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(/[\\'"\p{C}\p{Zl}\p{Zp}\p{Zs}]/gu, (letter) => {
    if (letter === " ") return letter;
    if (letter === "'" || letter === '"') return letter === mark ? `\\${letter}` : letter;
    if (letter in ESCAPES) return ESCAPES[letter];
    const code = letter.codePointAt(0)!;
    const [sign, width] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
    return `\\${sign}${code.toString(16).padStart(width, "0")}`;
  });
  return mark + escaped + mark;
}

/** The number of an int, a float or a bool; undefined for others. */
export function numberOf({ type, value }: Value): number | bigint | undefined {
  if (type === "BooleanValue") return value === true ? 1 : 0;
  return type === "IntegerValue" || type === "FloatValue" ? (value as number | bigint) : undefined;
}

/** Python's ==. */
export function equal(a: Value, b: Value): boolean {
  const [x, y] = [numberOf(a), numberOf(b)];
  // biome-ignore lint/suspicious/noDoubleEquals: a bigint and a number are equal by == alone
  if (x !== undefined && y !== undefined) return x == y;
  if (isList(a) && isList(b))
    return (
      a.type === b.type && a.value.length === b.value.length && a.value.every((item, i) => equal(item, b.value[i]))
    );
  if (isDict(a) && isDict(b)) {
    const other = b.value;
    const same = ([key, item]: [string, Value]): boolean => other.has(key) && equal(item, other.get(key)!);
    return a.value.size === other.size && [...a.value].every(same);
  }
  return a.type === b.type && a.value === b.value;
}

/** Negative, 0 or positive as a comes before, with or after b. Errors: for types without an order, as in Python. */
export function compare(a: Value, b: Value, operator: string): number {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== undefined && y !== undefined) return x < y ? -1 : x > y ? 1 : 0;
  if (isText(a) && isText(b)) return compareTexts(a.value, b.value);
  if (isList(a) && isList(b)) {
    for (const [i, item] of a.value.entries()) {
      if (i >= b.value.length) return 1;
      if (!equal(item, b.value[i])) return compare(item, b.value[i], operator);
    }
    return a.value.length - b.value.length;
  }
  throw new Error(`'${operator}' not supported between instances of '${typeOf(a)}' and '${typeOf(b)}'`);
}

/** Compares by code points; JavaScript itself compares by UTF-16 units. */
export function compareTexts(a: string, b: string): number {
  let i = 0;
  while (i < a.length && a[i] === b[i]) i++;
  if (/[\uDC00-\uDFFF]/.test(a[i] ?? "")) i--;
  return (a.codePointAt(i) ?? -1) - (b.codePointAt(i) ?? -1);
}

/** What a loop goes over: characters, items, keys; nothing for an undefined value. Errors: for all else. */
export function itemsOf(value: Value): Value[] {
  if (isText(value)) return Array.from(value.value, textOf);
  if (isList(value)) return value.value;
  if (isDict(value)) return [...value.value.keys()].map(textOf);
  if (isUndefined(value)) return [];
  throw new Error(`'${typeOf(value)}' object is not iterable`);
}
