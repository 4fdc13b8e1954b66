// Reading config.json field by field: each value is checked for type and range and named when it is wrong. What a family
// does with the values is in its own file.
import { excerpt, UserError } from "../errors.js";

/**
 * The largest numbers that are taken, several times those of any released model. What is larger is damage or an attack, and would
 * make lists that no memory holds before anything else could refuse it.
 */
export const MOST = {
  layers: 512,
  experts: 2048,
  heads: 1024,
  headWidth: 8192,
  /** Of hidden states and feed-forward layers. */
  width: 2 ** 17,
  vocabulary: 2 ** 22,
  parameters: 1e15,
  any: 2 ** 31 - 1,
};

export class ConfigReader {
  constructor(
    readonly source: Record<string, unknown>,
    readonly where: string,
  ) {}

  fail(key: string, expected: string): never {
    throw new UserError(`${this.where}: "${key}" is ${excerpt(this.source[key])} (expected ${expected}).`);
  }

  /** Whether the key is there with a value; null and an empty object are none. */
  holds(key: string): boolean {
    const value = this.source[key] ?? null;
    return value !== null && !(typeof value === "object" && Object.keys(value).length === 0);
  }

  /** A whole number from `least` to `most`; `fallback` when the key is absent or null. */
  integer(key: string, fallback?: number, least = 1, most = MOST.any): number {
    const value = this.source[key] ?? fallback;
    if (typeof value !== "number" || !Number.isInteger(value) || value < least) {
      this.fail(key, `a whole number of at least ${least}`);
    }
    if (value > most) this.fail(key, `at most ${most}`);
    return value;
  }

  number(key: string, fallback?: number): number {
    const value = this.source[key] ?? fallback;
    if (typeof value !== "number" || !(value >= 0 && value < Infinity)) this.fail(key, "a number of at least 0");
    return value;
  }

  positive(key: string, fallback?: number): number {
    const value = this.source[key] ?? fallback;
    if (typeof value !== "number" || !(value > 0 && value < Infinity)) this.fail(key, "a number above 0");
    return value;
  }

  /** A list of `length` numbers above 0. */
  positives(key: string, length: number): number[] {
    const value = this.source[key];
    const fits =
      Array.isArray(value) &&
      value.length === length &&
      value.every((item) => typeof item === "number" && item > 0 && item < Infinity);
    if (!fits) this.fail(key, `a list of ${length} numbers above 0`);
    return value as number[];
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.source[key] ?? fallback;
    if (typeof value !== "boolean") this.fail(key, "true or false");
    return value;
  }

  integers(key: string): number[] {
    const value = this.source[key] ?? [];
    if (!Array.isArray(value) || !value.every((item) => Number.isInteger(item)))
      this.fail(key, "a list of layer numbers");
    return value as number[];
  }

  /** Refuses any value but those we compute; a silent difference would train another network. */
  only(key: string, allowed: unknown[]): void {
    const value = this.source[key];
    if (value === undefined || value === null || allowed.includes(value)) return;
    this.fail(key, `${allowed.map((item) => excerpt(item)).join(" or ")}; other values are not supported`);
  }
}
