// Operators between values as in Python: whole numbers of any size, texts that join only texts, lists and objects that
// are compared by content. Errors are Python's, since the caller shows them to the author of the template.
import { LimitExceeded } from "../../limits.js";
import { boundRepeat, boundSearch } from "../bounds.js";
import { boolOf, compare, equal, floatOf, hasKeys, integerOf, isList, isText, itemsOf } from "./values.js";
import { isUndefined, listOf, numberOf, str, textOf, typeOf, type Value } from "./values.js";

/** Most bits of a number that ** may make. */
const LONGEST_POWER = 4096;

/**
 * `left operator right`, for all operators but `and` and `or`. Errors: for types that Python's operator does not take.
 */
export function operate(operator: string, left: Value, right: Value): Value {
  switch (operator) {
    case "==":
      return boolOf(equal(left, right));
    case "!=":
      return boolOf(!equal(left, right));
    case "~":
      return textOf(str(left) + str(right));
    case "in":
      return boolOf(holds(right, left));
    case "not in":
      return boolOf(!holds(right, left));
  }
  if (isUndefined(left) || isUndefined(right)) throw new Error(`${operator} is applied to what is undefined`);
  switch (operator) {
    case "<":
      return boolOf(compare(left, right, operator) < 0);
    case ">":
      return boolOf(compare(left, right, operator) > 0);
    case "<=":
      return boolOf(compare(left, right, operator) <= 0);
    case ">=":
      return boolOf(compare(left, right, operator) >= 0);
  }
  const [a, b] = [numberOf(left), numberOf(right)];
  if (a !== undefined && b !== undefined) {
    const isFloat = left.type === "FloatValue" || right.type === "FloatValue" || operator === "/";
    if (isFloat || (operator === "**" && b < 0)) return floatOf(withFloats(operator, Number(a), Number(b)));
    return integerOf(withIntegers(operator, a, b));
  }
  if (operator === "+" && isText(left) && isText(right)) return textOf(left.value + right.value);
  if (operator === "+" && isList(left) && isList(right) && left.type === right.type)
    return listOf([...left.value, ...right.value]);
  if (operator === "*" && left.type !== "FloatValue" && right.type !== "FloatValue") {
    const repeated = repeat(left, b) ?? repeat(right, a);
    if (repeated !== undefined) return repeated;
  }
  throw new Error(`unsupported operand type(s) for ${operator}: '${typeOf(left)}' and '${typeOf(right)}'`);
}

function holds(whole: Value, part: Value): boolean {
  if (isText(whole)) {
    if (!isText(part)) throw new Error(`'in <string>' requires string as left operand, not ${typeOf(part)}`);
    boundSearch(part.value, whole.value);
    return whole.value.includes(part.value);
  }
  if (hasKeys(whole) && (isList(part) || hasKeys(part))) throw new Error(`unhashable type: '${typeOf(part)}'`);
  if (hasKeys(whole)) return isText(part) && whole.value.has(part.value);
  return itemsOf(whole).some((item) => equal(item, part));
}

function repeat(value: Value, times: number | bigint | undefined): Value | undefined {
  if (typeof times !== "number" || !Number.isInteger(times) || !(isText(value) || isList(value))) return undefined;
  const count = Math.max(0, times);
  boundRepeat(value.value.length, count);
  if (isText(value)) return textOf(value.value.repeat(count));
  return listOf(Array.from({ length: count }, () => value.value).flat());
}

function withFloats(operator: string, a: number, b: number): number {
  if (b === 0 && (operator === "/" || operator === "//" || operator === "%")) throw new Error("division by zero");
  switch (operator) {
    case "+":
      return a + b;
    case "-":
      return a - b;
    case "*":
      return a * b;
    case "/":
      return a / b;
    case "//":
      return Math.floor(a / b);
    case "%":
      return (a % b) + (a % b !== 0 && a % b < 0 !== b < 0 ? b : 0);
    default: {
      const power = a ** b;
      if (!Number.isFinite(power)) throw new Error("the power is not a finite real number");
      return power;
    }
  }
}

/** Computes in numbers if all values fit, else in bigints. */
function withIntegers(operator: string, a: number | bigint, b: number | bigint): number | bigint {
  if (operator === "**" && bits(a) * Number(b) > LONGEST_POWER)
    throw new LimitExceeded(`it makes a number of more than ${LONGEST_POWER} bits`);
  if (typeof a === "number" && typeof b === "number") {
    const result = withFloats(operator, a, b);
    if (Number.isSafeInteger(result)) return result;
  }
  const [x, y] = [BigInt(a), BigInt(b)];
  if (y === 0n && (operator === "//" || operator === "%")) throw new Error("division by zero");
  const unlike = operator !== "**" && y !== 0n && x % y !== 0n && x < 0n !== y < 0n;
  switch (operator) {
    case "+":
      return x + y;
    case "-":
      return x - y;
    case "*":
      return x * y;
    case "//":
      return x / y - (unlike ? 1n : 0n);
    case "%":
      return (x % y) + (unlike ? y : 0n);
    default:
      return x ** y;
  }
}

const bits = (value: number | bigint): number => Math.log2(Math.abs(Number(value)) + 1);
