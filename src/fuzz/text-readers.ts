// Readers of what becomes tokens: tokenizer files, chat templates, and rows that are rendered, encoded or used as
// questions.
import { copyFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { makeDocuments } from "../data/make-documents.js";
import { parseSources } from "../data/sources/parse.js";
import { readAllRows } from "../data/sources/open-sources.js";
import { renderWithMask } from "../data/template/template.js";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer/tokenizer.js";
import { detectTask, readAnswerRow, readChoiceRow } from "../eval/task-rows.js";
import { mutateJson } from "./mutate-json.js";
import { bytesOf, type Reader, readRepositoryFile, repositoryFile } from "./reader.js";
import { CONVERSATION, mutateRow, ROWS } from "./row-readers.js";

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

export const conversationReader: Reader = {
  name: "conversations",
  seeds: () => ROWS.slice(1).map(bytesOf),
  mutate: mutateRow,
  open: (folder) => {
    const tokenizer = { ...letters(), chatTemplate: TEMPLATE, chatTemplates: { default: TEMPLATE } };
    return async (input) => {
      writeFileSync(join(folder, "rows.jsonl"), input);
      const settings = {
        format: "auto",
        columns: {},
        assistant_only_loss: true,
        completion_only_loss: true,
        max_length: 64,
      } as const;
      makeDocuments(await readAllRows(parseSources(join(folder, "rows.jsonl"))), tokenizer, settings);
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
  open: (folder) => async (input) => {
    writeFileSync(join(folder, "rows.jsonl"), input);
    const rows = await readAllRows(parseSources(join(folder, "rows.jsonl")));
    const task = detectTask(rows);
    for (const row of rows) {
      if (task === "choice") readChoiceRow(row);
      if (task === "exact-match") readAnswerRow(row);
    }
  },
};
