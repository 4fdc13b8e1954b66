// Tests (`x is string`) as jinja2 has them, where the template library's own hold for other values: a bool is a number, an
// object can be iterated, and so can what is undefined.
import { equal, isDict, isInteger, isList, isNone, isText, isTrue, isUndefined, NONE, numberOf } from "./values.js";
import { str, typeOf, type Value } from "./values.js";

type Test = (value: Value, other: Value) => boolean;

const isBool = ({ type }: Value): boolean => type === "BooleanValue";
const canBeIterated: Test = (value) => isText(value) || isList(value) || isDict(value) || isUndefined(value);
/** Neither holds of a fraction. */
const leaves =
  (rest: number): Test =>
  (value) => {
    const number = numberOf(value);
    if (number === undefined) throw new Error(`whether it is odd is asked of '${typeOf(value)}'`);
    const left = typeof number === "bigint" ? Number(number % 2n) : number % 2;
    return Math.abs(left) === rest;
  };

/** Of what prints no letter that can be large or small, neither holds. */
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

/** Whether a test of that name holds; undefined where there is none here. */
export function holds(name: string, value: Value, other: Value = NONE): boolean | undefined {
  return Object.hasOwn(TESTS, name) ? TESTS[name](value, other) : undefined;
}
