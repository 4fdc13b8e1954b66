// Rows on their way to another thread. Copying between threads loses those values that json-values.ts keeps and
// JSON.parse would lose. So rows with such a value go as text, all others as they are.
import { JsonFloat, orderedKeys, parseJsonRow } from "../json-values.js";
import type { Row } from "../rows.js";

export type RowMessage = { place: string } & ({ value: Row["value"] } | { text: string });

export const toMessage = ({ value, place }: Row): RowMessage =>
  isPlain(value) ? { value, place } : { text: textOf(value), place };

export const fromMessage = (message: RowMessage): Row => ({
  place: message.place,
  value: "value" in message ? message.value : (parseJsonRow(message.text) as Row["value"]),
});

/** Walks without recursion, so depth does not matter. */
function isPlain(value: unknown): boolean {
  const left = [value];
  while (left.length > 0) {
    const next = left.pop();
    if (typeof next !== "object" || next === null) continue;
    if (next instanceof JsonFloat || Object.getOwnPropertySymbols(next).length > 0) return false;
    for (const item of Array.isArray(next) ? next : Object.values(next)) left.push(item);
  }
  return true;
}

function textOf(value: unknown): string {
  if (typeof value === "bigint") return String(value);
  if (value instanceof JsonFloat) return floatText(Number(value));
  if (Array.isArray(value)) return `[${value.map(textOf).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const entries = orderedKeys(value).map((key): [string, unknown] => [key, (value as Row["value"])[key]]);
  const written = entries.filter(([, item]) => item !== undefined);
  return `{${written.map(([key, item]) => `${JSON.stringify(key)}:${textOf(item)}`).join(",")}}`;
}

function floatText(value: number): string {
  if (!Number.isFinite(value)) return value > 0 ? "1e999" : "-1e999";
  const text = Object.is(value, -0) ? "-0" : String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}
