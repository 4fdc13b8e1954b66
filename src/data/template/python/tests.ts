// Tests (`x is string`) as jinja2 has them, where the template library's own hold for other values: a bool is a number, an
// object can be iterated, and so can what is undefined.
import { equal, isDict, isInteger, isList, isNone, isText, isTrue, isUndefined, NONE, numberOf } from "./values.js";
import type { Value } from "./values.js";

type Test = (value: Value, other: Value) => boolean;

const isBool = ({ type }: Value): boolean => type === "BooleanValue";
const canBeIterated: Test = (value) => isText(value) || isList(value) || isDict(value) || isUndefined(value);
const odd = (value: Value): boolean => {
  const number = numberOf(value);
  if (number === undefined) throw new Error("what is no number is asked whether it is odd");
  return typeof number === "bigint" ? number % 2n !== 0n : number % 2 !== 0;
};

const TESTS: Record<string, Test> = {
  defined: (value) => !isUndefined(value),
  undefined: isUndefined,
  none: isNone,
  boolean: isBool,
  true: (value) => isBool(value) && isTrue(value),
  false: (value) => isBool(value) && !isTrue(value),
  string: isText,
  number: (value) => numberOf(value) !== undefined,
  integer: isInteger,
  float: ({ type }) => type === "FloatValue",
  mapping: isDict,
  iterable: canBeIterated,
  sequence: canBeIterated,
  odd,
  even: (value) => !odd(value),
  eq: equal,
  equalto: equal,
  "==": equal,
  ne: (value, other) => !equal(value, other),
  "!=": (value, other) => !equal(value, other),
};

/** Whether a test of that name holds; undefined where there is none here. */
export function holds(name: string, value: Value, other: Value = NONE): boolean | undefined {
  return Object.hasOwn(TESTS, name) ? TESTS[name](value, other) : undefined;
}
