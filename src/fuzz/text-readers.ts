// Readers of what becomes tokens: tokenizer files, chat templates, and rows in every form.
import { copyFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { detectFormat, readSample } from "../data/conversation.js";
import { makeDocuments } from "../data/documents.js";
import { readRows } from "../data/rows.js";
import { renderWithMask } from "../data/template/template.js";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer/tokenizer.js";
import { detectTask, readAnswerRow, readChoiceRow } from "../eval/task-rows.js";
import { mutateJson } from "./mutate-json.js";
import { mutateLines } from "./mutate-text.js";
import type { Random } from "./random.js";
import { bytesOf, type Reader, readRepositoryFile, repositoryFile, textOf } from "./reader.js";

const LETTERS = "test/golden/letters";
const letters = (): Tokenizer => loadTokenizer(repositoryFile(LETTERS));
const smallTokenizers = (): string[] =>
  readdirSync(repositoryFile("test/golden/tokenizers"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => `test/golden/tokenizers/${name}`);

export const tokenizerReader: Reader = {
  name: "tokenizer.json",
  seeds: () =>
    [LETTERS, ...smallTokenizers()]
      .map((folder) => readRepositoryFile(`${folder}/tokenizer.json`))
      .filter(({ length }) => length < 30_000),
  mutate: (seed, random) =>
    mutateJson(seed, random, ["ByteLevel", "Metaspace", "Split", "BPE", "Unigram", "WordPiece", "(a+)+$", "Sequence"]),
  open: (folder) => (input) => {
    writeFileSync(join(folder, "tokenizer.json"), input);
    const tokenizer = loadTokenizer(folder);
    tokenizer.decode(tokenizer.encode("ab ba, 12"));
  },
};

const TEMPLATE =
  "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
const CONVERSATION = [
  { role: "user", content: "a b" },
  { role: "assistant", content: "b a" },
];

export const templateReader: Reader = {
  name: "tokenizer_config.json",
  seeds: () => [
    bytesOf({ chat_template: TEMPLATE, eos_token: "a" }),
    bytesOf({ chat_template: [{ name: "default", template: TEMPLATE }], bos_token: { content: "b" } }),
  ],
  mutate: (seed, random) =>
    mutateJson(seed, random, [
      "{{ messages",
      "{% for i in range(9) %}x{% endfor %}",
      "{{ 1 / 0 }}",
      "{{ messages[9].content.x.y }}",
      "{{ messages | tojson }}",
    ]),
  open: (folder) => {
    copyFileSync(repositoryFile(`${LETTERS}/tokenizer.json`), join(folder, "tokenizer.json"));
    return (input) => {
      writeFileSync(join(folder, "tokenizer_config.json"), input);
      renderWithMask(loadTokenizer(folder), CONVERSATION);
    };
  },
};

const ROWS: unknown[] = [
  { text: "abba" },
  { prompt: "ab", completion: "ba" },
  { messages: CONVERSATION, tools: [{ name: "x" }] },
  { prompt: CONVERSATION.slice(0, 1), completion: CONVERSATION.slice(1) },
  {
    messages: [
      { role: "user", content: "a" },
      { role: "assistant", content: null, tool_calls: [{ function: { name: "f", arguments: {} } }] },
    ],
  },
];

const mutateRow = (seed: Uint8Array, random: Random): Uint8Array =>
  mutateJson(seed, random, ["user", "assistant", "tool", "system"]);

/** Rows one a line, each of which may be wrong, or the lines. */
function mutateRows(seed: Uint8Array, random: Random): Uint8Array {
  if (random.oneIn(3)) return mutateLines(seed, random);
  const lines = textOf(seed).split("\n");
  const at = random.below(lines.length);
  lines[at] = textOf(mutateRow(bytesOf(lines[at]), random));
  return bytesOf(lines.join("\n"));
}

function readSamples(path: string): void {
  const rows = readRows(path);
  const format = detectFormat(rows, "auto");
  for (const row of rows) readSample(row, format);
}

/** A reader of rows in a file of this ending. */
const rowsReader = (ending: string, seeds: () => Uint8Array[], mutate: Reader["mutate"]): Reader => ({
  name: `rows ${ending}`,
  seeds,
  mutate,
  open: (folder) => (input) => {
    writeFileSync(join(folder, `rows${ending}`), input);
    readSamples(join(folder, `rows${ending}`));
  },
});

export const jsonlReader = rowsReader(
  ".jsonl",
  () => ROWS.map((row) => bytesOf([row, row].map((each) => JSON.stringify(each)).join("\n"))),
  mutateRows,
);
export const jsonReader = rowsReader(".json", () => ROWS.map((row) => bytesOf([row, row])), mutateRow);
export const txtReader = rowsReader(".txt", () => [bytesOf("abba\nbaab\n")], mutateLines);

export const conversationReader: Reader = {
  name: "conversations",
  seeds: () => ROWS.slice(1).map(bytesOf),
  mutate: mutateRow,
  open: (folder) => {
    const tokenizer = { ...letters(), chatTemplate: TEMPLATE, chatTemplates: { default: TEMPLATE } };
    return (input) => {
      writeFileSync(join(folder, "rows.jsonl"), input);
      const settings = {
        format: "auto",
        columns: {},
        assistant_only_loss: true,
        completion_only_loss: true,
        max_length: 64,
      } as const;
      makeDocuments(readRows(join(folder, "rows.jsonl")), tokenizer, settings);
    };
  },
};

const TASK_ROWS: unknown[] = [
  { question: "a?", choices: ["a", "b"], answer: 0 },
  { question: "a?", choices: { text: ["a", "b"], label: ["A", "B"] }, answerKey: "B" },
  { ctx: "a [b]", endings: ["a", "b", "c"], label: "2", activity_label: "c" },
  { question: "1 + 1?", answer: "#### 2", context: "c" },
];

export const taskReader: Reader = {
  name: "rows of eval",
  seeds: () => TASK_ROWS.map(bytesOf),
  mutate: mutateRow,
  open: (folder) => (input) => {
    writeFileSync(join(folder, "rows.jsonl"), input);
    const rows = readRows(join(folder, "rows.jsonl"));
    const task = detectTask(rows);
    for (const row of rows) {
      if (task === "choice") readChoiceRow(row);
      if (task === "exact-match") readAnswerRow(row);
    }
  },
};
