// Tests (`x is string`) as in jinja2, where the template library's own differ: a bool is a number, and both an object
// and an undefined value can be iterated.
import { equal, isDict, isInteger, isList, isNone, isText, isTrue, isUndefined, NONE, numberOf } from "./values.js";
import { str, typeOf, type Value } from "./values.js";

type Test = (value: Value, other: Value) => boolean;

const isBool = ({ type }: Value): boolean => type === "BooleanValue";
const canBeIterated: Test = (value) => isText(value) || isList(value) || isDict(value) || isUndefined(value);
/** odd and even; both are false for a fraction. */
const leaves =
  (rest: number): Test =>
  (value) => {
    const number = numberOf(value);
    if (number === undefined) throw new Error(`whether it is odd is asked of '${typeOf(value)}'`);
    const left = typeof number === "bigint" ? Number(number % 2n) : number % 2;
    return Math.abs(left) === rest;
  };

/** Both are false for a text without letters that have case. */
const isLower = (text: string): boolean => text === text.toLowerCase() && text !== text.toUpperCase();
const isUpper = (text: string): boolean => text === text.toUpperCase() && text !== text.toLowerCase();

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
  lower: (value) => isLower(str(value)),
  upper: (value) => isUpper(str(value)),
  odd: leaves(1),
  even: leaves(0),
  eq: equal,
  equalto: equal,
  "==": equal,
  ne: (value, other) => !equal(value, other),
  "!=": (value, other) => !equal(value, other),
};

/** Whether a test holds; undefined if it is not defined here. */
export function holds(name: string, value: Value, other: Value = NONE): boolean | undefined {
  return Object.hasOwn(TESTS, name) ? TESTS[name](value, other) : undefined;
}
