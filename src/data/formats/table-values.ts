// Values of typed tables (Parquet, Arrow) as they would be in JSON. A table has every field in every row, and null
// where a row has no value: such keys are removed. Whole floats stay floats, as Python prints them: 10.0.
import { JsonFloat } from "../json-values.js";

/** A struct without the fields that are null. */
export function withoutNulls(entries: Iterable<readonly [string, unknown]>): Record<string, unknown> {
  return Object.fromEntries([...entries].filter(([, value]) => value !== null && value !== undefined));
}

/** A single value; `isFloat`: the column's type is a float. Bytes stay bytes, which no reader takes. */
export function plainLeaf(value: unknown, isFloat: boolean): unknown {
  if (value === undefined || value === null) return null;
  if (typeof value === "number") return isFloat && Number.isInteger(value) ? new JsonFloat(value) : value;
  if (typeof value === "bigint") return isSafe(value) ? Number(value) : value;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof Uint8Array) return textOf(value) ?? value;
  return value;
}

const isSafe = (value: bigint): boolean =>
  value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER);

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}
