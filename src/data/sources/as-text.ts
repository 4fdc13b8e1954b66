// Sources as one text, as records of one kind have them. Imports no values: the settings use it.
import type { Source } from "./source.js";

/** A list of sources as text that `parseSources` reads, for records of one kind. */
export function sourcesAsText(list: readonly unknown[]): string {
  const plain = list.map((item) => (isFileAlone(item) ? item.file : item));
  return plain.every((item) => typeof item === "string" && !/,|^\[/.test(item))
    ? plain.join(",")
    : JSON.stringify(list);
}

/** A map that has nothing but a name, which is not read otherwise as text. */
const isFileAlone = (item: unknown): item is { file: string } =>
  typeof item === "object" &&
  item !== null &&
  Object.keys(item).join() === "file" &&
  !/[,:[]/.test((item as Source).file);
