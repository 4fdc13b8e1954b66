// Plain text: the whole file is one row, {"text": ...}. A folder of texts has one row per file. Up to 500 MiB each.
import type { FileFormat } from "./format.js";
import { wholeText } from "./lines.js";

export const text: FileFormat = {
  name: "text",
  endings: [".txt", ".text", ".md"],
  fits: () => false,
  async *read({ path, bytes }) {
    const text = await wholeText(bytes(), path);
    if (text.trim() !== "") yield [{ value: { text }, place: `${path}:1` }];
  },
};
