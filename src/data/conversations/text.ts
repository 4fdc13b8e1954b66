// Plain text, all of it trained.
import { readText } from "./fields.js";
import type { RowKind } from "./row-kind.js";

export const text: RowKind = {
  makes: ["text"],
  needs: [["text"]],
  reads: [],
  readSample: ({ value, place }) => ({ kind: "text", text: readText(value.text, "text", place) }),
};
