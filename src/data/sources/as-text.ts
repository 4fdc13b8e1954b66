// Sources as one text, for records that hold only one type. Imports no values, since the settings use it.
import type { Source } from "./source.js";

/** A list of sources as a text that `parseSources` reads. */
export function sourcesAsText(list: readonly unknown[]): string {
  const plain = list.map((item) => (isFileAlone(item) ? item.file : item));
  return plain.every((item) => typeof item === "string" && !/,|^\[/.test(item))
    ? plain.join(",")
    : JSON.stringify(list);
}

/** A map with only a name, which means the same when written as text. */
const isFileAlone = (item: unknown): item is { file: string } =>
  typeof item === "object" &&
  item !== null &&
  Object.keys(item).join() === "file" &&
  !/[,:[]/.test((item as Source).file);
