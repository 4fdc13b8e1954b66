// Rules that many operators share (see row.ts), and pieces of rules. Each result is the caller's.
import { elementwise, inPlace } from "../shadow/arithmetic.js";
import { record } from "../shadow/gradients.js";
import { dimOf } from "../shadow/shapes.js";
import { make, type Value } from "../shadow/values.js";

/** A new tensor like x, without a gradient. */
export const plain = (x: Value): Value => elementwise([x]);

/** A new tensor with the common size and type of both, without a gradient. */
export const plainPair = (a: Value, b: Value): Value => elementwise([a, b]);

/** y = f(x), whose gradient is one product with a saved tensor. */
export const unary = (saves: "input" | "result" | "nothing") => (x: Value) => {
  const y = elementwise([x]);
  return record(y, [x], saves === "nothing" ? [] : [saves === "input" ? x : y], (dy) => [elementwise([dy])]);
};

/** In place, with tensors and numbers that may have other types. */
export const changed = (x: Value, ...others: unknown[]): Value => {
  inPlace(
    x,
    others.filter((other): other is Value => other instanceof Object && "storage" in other),
  );
  return x;
};

/** In place, without temporaries. */
export const writtenOver = (x: Value): Value => x;

/** The same without a result. */
export const nothing = (): void => {};

export const matrix = (rows: number, columns: number, like: Value): Value =>
  make([rows, columns], like.dtype, like.device);

/** Whether this factor of a product needs a gradient, so that the other factor is kept. */
export const needs = (value: Value): boolean => value.requiresGrad;

/** Sizes without some dimensions, or with 1 in their places. */
export const withoutDims = (sizes: readonly number[], dims: readonly number[], keep: boolean): number[] => {
  const gone = dims.length === 0 ? [...sizes.keys()] : dims.map((dim) => dimOf(dim, sizes.length));
  return keep ? sizes.map((size, i) => (gone.includes(i) ? 1 : size)) : sizes.filter((_, i) => !gone.includes(i));
};

/**
 * How many of `count` choices go to each expert in a plan: equal shares, since the real numbers are not known before.
 */
export function sharedEvenly(choices: Value, experts: number): Value {
  const counts = make([experts], "int64", choices.device);
  const { count } = choices;
  counts.storage.elements = Array.from({ length: experts }, (_, i) => Math.floor((count + experts - 1 - i) / experts));
  return counts;
}
