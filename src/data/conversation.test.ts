import assert from "node:assert/strict";
import { test } from "node:test";
import { detectFormat, readSample, renameColumns } from "./conversation.js";
import type { RowFormat } from "./conversations/row-kind.js";
import type { Row } from "./rows.js";

const rowsOf = (...values: Record<string, unknown>[]): Row[] =>
  values.map((value, i) => ({ value, place: `d.jsonl:${i + 1}` }));
const turn = (role: string, content: unknown): object => ({ role, content });

test("the format is that of all first rows; conversations win over the text beside them", () => {
  assert.equal(detectFormat(rowsOf({ text: "a" }), "auto"), "text");
  assert.equal(detectFormat(rowsOf({ prompt: "a", completion: "b" }), "auto"), "prompt_completion");
  assert.equal(detectFormat(rowsOf({ prompt: "a", messages: [], text: "b" }), "auto"), "messages");
  assert.equal(
    detectFormat(rowsOf({ prompt: "a", text: "b", messages: null }, { text: "c", messages: [] }), "auto"),
    "text",
  );
  assert.equal(detectFormat(rowsOf({ messages: [], text: "b" }), "text"), "text");
});

test("an unknown format is refused with the keys found and the formats known", () => {
  assert.throws(() => detectFormat(rowsOf({ question: "a", answer: "b" }), "auto"), {
    name: "UserError",
    message:
      /^d\.jsonl:1: the first rows have the keys "question", "answer" \(expected "messages" for the format messages, "conversations" or "conversation" for the format sharegpt, "prompt" and "completion" for the format prompt_completion, "instruction" and "output" for the format alpaca, "text" for the format text, "input_ids" for the format tokens\)\. .*columns: \{prompt: "question"/,
  });
  assert.throws(() => detectFormat(rowsOf({ text: "a" }), "messages"), {
    name: "UserError",
    message: /keys "text" \(expected "messages" for the format messages\)/,
  });
});

test("a row of another format than the first is named", () => {
  for (const [first, second, key] of [
    [{ text: "a" }, { prompt: "a", completion: "b" }, "text"],
    [{ text: "a" }, { text: null }, "text"],
    [{ prompt: "a", completion: "b" }, { prompt: "a" }, "completion"],
  ] as const) {
    const message = new RegExp(
      `^d\\.jsonl:2: "${key}" is missing or null, but d\\.jsonl:1 is a row of format .* Mend the row`,
    );
    assert.throws(() => detectFormat(rowsOf(first, second), "auto"), { name: "UserError", message });
  }
});

test("a null in place of what a format needs is named", () => {
  for (const [value, key] of [
    [{ text: null }, "text"],
    [{ prompt: "a", completion: null }, "completion"],
    [{ messages: null, id: 1 }, "messages"],
  ] as const) {
    assert.throws(() => detectFormat(rowsOf(value), "auto"), {
      name: "UserError",
      message: new RegExp(`In d\\.jsonl:1, "${key}" is null\\. Fill it in`),
    });
  }
});

test("columns are renamed, over what has our name already", () => {
  const rows = rowsOf({ question: "q", answer: "a", prompt: "old", id: 3 });
  const renamed = renameColumns(rows, { prompt: "question", completion: "answer" });
  assert.deepEqual(renamed, [{ value: { prompt: "q", completion: "a", id: 3 }, place: "d.jsonl:1" }]);
  assert.deepEqual(rows[0].value, { question: "q", answer: "a", prompt: "old", id: 3 });
  assert.deepEqual(
    renameColumns(rowsOf({ prompt: "x", completion: "y" }), { prompt: "completion", completion: "prompt" })[0].value,
    {
      prompt: "y",
      completion: "x",
    },
  );
  assert.equal(renameColumns(rows, {}), rows);
});

test("a column map with unknown names is refused with the nearest", () => {
  const rows = rowsOf({ question: "q", answer: "a" });
  assert.throws(() => renameColumns(rows, { promt: "question" }), {
    name: "UserError",
    message:
      /^columns: "promt" is not a column we read \(expected "messages", "tools", .* and \d more\)\. Did you mean "prompt"\?$/,
  });
  assert.throws(() => renameColumns(rows, { prompt: "qestion" }), {
    name: "UserError",
    message:
      /^d\.jsonl:1: the setting columns takes "prompt" from a column "qestion", which the rows do not have \(found "question", "answer"\)\. Did you mean "question"\?$/,
  });
});

test("samples of each format", () => {
  const [row] = rowsOf({
    text: "t",
    prompt: "p",
    completion: "c",
    messages: [turn("user", "u"), { role: "assistant", content: null, tool_calls: [{}] }],
    tools: [{ name: "f" }],
  });
  assert.deepEqual(readSample(row, "text"), { kind: "text", text: "t" });
  assert.deepEqual(readSample(row, "prompt_completion"), { kind: "completion", prompt: "p", completion: "c" });
  assert.deepEqual(readSample(row, "messages"), {
    kind: "messages",
    messages: row.value.messages,
    tools: [{ name: "f" }],
  });
  const [chat] = rowsOf({ prompt: [turn("user", "u")], completion: [turn("assistant", "a")] });
  assert.deepEqual(readSample(chat, "prompt_completion"), {
    kind: "chat_completion",
    prompt: [turn("user", "u")],
    completion: [turn("assistant", "a")],
    tools: undefined,
  });
});

const BAD: [value: Record<string, unknown>, format: RowFormat, message: RegExp][] = [
  [{ text: 5 }, "text", /^d\.jsonl:1: text is the number 5 \(expected a text\)\.$/],
  [{}, "text", /^d\.jsonl:1: text is missing/],
  [
    { text: "a" },
    "messages",
    /^d\.jsonl:1: messages is missing \(expected it, as the format is messages; found "text"\)\. Mend the row, or name files/,
  ],
  [{ prompt: "a", completion: null }, "prompt_completion", /^d\.jsonl:1: completion is null \(expected a text\)/],
  [{ prompt: {}, completion: "b" }, "prompt_completion", /^d\.jsonl:1: prompt is an object/],
  [
    { prompt: [turn("user", "a")], completion: "b" },
    "prompt_completion",
    /prompt is an array of 1 and completion is the text "b" \(expected two texts or two lists of messages\)/,
  ],
  [
    { prompt: [], completion: [turn("user", "a")] },
    "prompt_completion",
    /prompt is an empty array \(expected a list of at least one/,
  ],
  [{ messages: [] }, "messages", /^d\.jsonl:1: messages is an empty array/],
  [{ messages: "hi" }, "messages", /messages is the text "hi"/],
  [
    { messages: [turn("user", "a"), "b"] },
    "messages",
    /^d\.jsonl:1: messages\[1\] is the text "b" \(expected \{"role", "content"\} or \{"from", "value"\}\)/,
  ],
  [
    { messages: [{ speaker: "human", value: "a" }] },
    "messages",
    /messages\[0\]: role is missing \(expected "system".*the keys are "speaker", "value"\)/,
  ],
  [
    { messages: [turn("asistant", "a")] },
    "messages",
    /messages\[0\]: role is "asistant" \(expected .*\)\. Did you mean "assistant"\?/,
  ],
  [
    {
      messages: [
        turn("user", [
          { type: "text", text: "a" },
          { type: "image_url", image_url: {} },
        ]),
      ],
    },
    "messages",
    /messages\[0\]: content\[1\] is of type "image_url" \(expected .*\)\. Only text can be trained on\./,
  ],
  [{ messages: [turn("assistant", null)] }, "messages", /messages\[0\]: content is null/],
  [{ messages: [{ role: "assistant", tool_calls: [] }] }, "messages", /messages\[0\]: content is missing/],
  [
    { messages: [turn("user", "a")], tools: "f" },
    "messages",
    /tools is the text "f" \(expected a list of tool descriptions/,
  ],
];

for (const [value, format, message] of BAD) {
  test(`refused: ${format} ${JSON.stringify(value)}`, () => {
    assert.throws(() => readSample(rowsOf(value)[0], format), { name: "UserError", message });
  });
}
