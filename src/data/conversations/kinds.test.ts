// Rows as people have them, one kind after the other: what is read of each, and what is said of what cannot be read.
import assert from "node:assert/strict";
import { test } from "node:test";
import { detectFormat, readSample, renameColumns } from "../conversation.js";
import type { RowFormat } from "./row-kind.js";
import type { Sample } from "./sample.js";
import { unreadColumns } from "./registry.js";
import { JsonFloat, parseJsonRow } from "../json-values.js";
import type { Row } from "../rows.js";

type Value = Record<string, unknown>;
const rowOf = (value: Value): Row => ({ value, place: "d.jsonl:1" });
const read = (value: Value, format?: RowFormat): Sample =>
  readSample(rowOf(value), format ?? detectFormat([rowOf(value)], "auto"));
const user = (content: string): object => ({ role: "user", content });
const assistant = (content: string): object => ({ role: "assistant", content });
const refused = (value: Value, message: RegExp): void =>
  assert.throws(() => read(value), { name: "UserError", message }, JSON.stringify(value));

const TOOL = { type: "function", function: { name: "f", parameters: {} } };

test("ShareGPT: speakers, calls and observations, a system prompt and tools as text", () => {
  const conversations = [
    { from: "human", value: "go" },
    { from: "function_call", value: '{"name": "f", "arguments": {"price": 10.0}}' },
    { from: "observation", value: "ok" },
    { from: "gpt", value: "done" },
  ];
  const call = { type: "function", function: parseJsonRow('{"name": "f", "arguments": {"price": 10.0}}') };
  assert.deepEqual(read({ conversations, system: "be brief", tools: JSON.stringify([TOOL]) }), {
    kind: "messages",
    messages: [
      { role: "system", content: "be brief" },
      user("go"),
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", content: "ok" },
      assistant("done"),
    ],
    tools: [TOOL],
  });
  const two = [
    { from: "human", value: "go" },
    { from: "function_call", value: '[{"name": "a"}, {"name": "b"}]' },
  ];
  const sample = read({ conversation: two }) as Sample & { kind: "messages" };
  assert.equal((sample.messages[1].tool_calls as unknown[]).length, 2);
  refused(
    { conversations: [{ from: "alien", value: "x" }] },
    /conversations\[0\]: from is the text "alien" \(expected "human"/,
  );
  refused({ conversations: [{ from: "gtp", value: "x" }] }, /Did you mean "gpt"\?/);
  refused({ conversations: [{ from: "human", value: null }] }, /conversations\[0\]: value is null/);
  refused({ conversations: [{ from: "function_call", value: "f(1)" }] }, /function_call is not valid JSON/);
  refused(
    { conversations: [{ from: "function_call", value: "[1]" }] },
    /function_call is an array of 1 \(expected \{"name"/,
  );
});

test("roles and contents in conversations, and turns of ShareGPT in messages, are read as what they are", () => {
  for (const value of [
    { conversations: [user("a"), assistant("b")] },
    {
      messages: [
        { from: "human", value: "a" },
        { from: "gpt", value: "b" },
      ],
    },
    { messages: JSON.stringify([user("a"), assistant("b")]) },
    {
      messages: [
        { role: "user", content: [{ type: "text", text: "a" }] },
        { role: "assistant", content: ["b"] },
      ],
    },
  ])
    assert.deepEqual((read(value) as Sample & { kind: "messages" }).messages, [user("a"), assistant("b")]);
});

test("a system column stands in front; one that is there already is not doubled, and another is refused", () => {
  const system = { role: "system", content: "s" };
  for (const messages of [[user("a")], [system, user("a")]])
    assert.deepEqual((read({ messages, system: "s" }) as Sample & { kind: "messages" }).messages, [system, user("a")]);
  assert.deepEqual((read({ messages: [user("a")], system: "" }) as Sample & { kind: "messages" }).messages, [
    user("a"),
  ]);
  refused({ messages: [system, user("a")], system: "t" }, /two system prompts that differ/);
  const chat = read({ prompt: [user("a")], completion: [assistant("b")], system: "s" });
  assert.deepEqual((chat as Sample & { kind: "chat_completion" }).prompt, [system, user("a")]);
});

test("Alpaca: input, system and history are read", () => {
  const value = { instruction: "Translate.", input: "good morning", output: "bonjour" };
  const turns = [user("Translate.\ngood morning"), assistant("bonjour")];
  assert.deepEqual(read(value), { kind: "messages", messages: turns, tools: undefined });
  const messagesOf = (more: Value): unknown => (read({ ...value, ...more }) as Sample & { kind: "messages" }).messages;
  assert.deepEqual(messagesOf({ input: "" }), [user("Translate."), turns[1]]);
  assert.deepEqual(messagesOf({ input: null, history: null }), [user("Translate."), turns[1]]);
  assert.deepEqual(messagesOf({ system: "s", history: [["q", "a"]] }), [
    { role: "system", content: "s" },
    user("q"),
    assistant("a"),
    ...turns,
  ]);
  assert.deepEqual(messagesOf({ history: '[["q", "a"]]' }), [user("q"), assistant("a"), ...turns]);
  refused({ ...value, history: [["q"]] }, /history\[0\] is an array of 1 \(expected pairs of texts/);
  refused({ ...value, input: 5 }, /input is the number 5 \(expected a text\)/);
});

test("an input beside prompt and completion is a part of the prompt, under other names too", () => {
  const row = rowOf({ instruction: "Translate.", input: "good morning", output: "bonjour", topic: "fr" });
  const [renamed] = renameColumns([row], { prompt: "instruction", completion: "output" });
  assert.deepEqual(read(renamed.value), {
    kind: "completion",
    prompt: "Translate.\ngood morning",
    completion: "bonjour",
  });
  assert.deepEqual(unreadColumns(renamed.value, "prompt_completion"), ["topic"]);
  assert.deepEqual(
    unreadColumns({ prompt: "a", completion: "b", system: "s", tools: [], input: "" }, "prompt_completion"),
    ["system", "tools"],
  );
  assert.deepEqual(
    unreadColumns({ prompt: [user("a")], completion: [], system: "s", input: "i" }, "prompt_completion"),
    ["input"],
  );
});

test("a turn says whether it is trained, under all names, and the template never sees it", () => {
  for (const no of [
    { weight: 0 },
    { train: false },
    { training: false },
    { loss: false },
    { weight: new JsonFloat("0.0") },
  ]) {
    const sample = read({
      messages: [user("a"), { ...assistant("5"), ...no }, user("b"), { ...assistant("4"), weight: 1 }],
    });
    assert.deepEqual(sample, {
      kind: "messages",
      messages: [user("a"), assistant("5"), user("b"), assistant("4")],
      trains: [true, false, true, true],
      tools: undefined,
    });
  }
  const chat = read({
    prompt: [user("a"), { ...assistant("b"), weight: 0 }],
    completion: [{ from: "gpt", value: "c", train: true }],
    system: "s",
  });
  assert.deepEqual((chat as Sample & { kind: "chat_completion" }).trains, [true, true, false, true]);
  const table = read({ messages: [user("a"), { ...assistant("b"), weight: null }] }) as Sample & { kind: "messages" };
  assert.deepEqual([table.messages[1], "trains" in table], [assistant("b"), false]);
});

test("instructions that cannot be obeyed are refused", () => {
  const withKey = (key: object): Value => ({ messages: [user("a"), { ...assistant("b"), ...key }] });
  refused(withKey({ weight: 0.5 }), /messages\[1\]: weight is the number 0\.5 \(expected 0 or 1/);
  refused(withKey({ train: "no" }), /messages\[1\]: train is the text "no"/);
  refused(withKey({ weight: 2 }), /weight is the number 2/);
  refused(withKey({ weight: 1, train: false }), /"weight" and "train" disagree/);
  refused(withKey({ train_detail: [] }), /messages\[1\]: "train_detail" is an instruction that is not known/);
  refused(
    { messages: [{ ...user("a"), train: true }] },
    /messages\[0\]: "train" asks to train a turn of the role "user"/,
  );
});

test("tokens made elsewhere: labels, masks, padding", () => {
  const tokensOf = (value: Value): [number[], number[]] => {
    const sample = read(value) as Sample & { kind: "tokens" };
    return [[...sample.ids], [...sample.trained]];
  };
  const input_ids = [5, 6, 7, 0];
  assert.deepEqual(tokensOf({ input_ids }), [input_ids, [1, 1, 1, 1]]);
  assert.deepEqual(tokensOf({ input_ids, labels: [-100, -100, 7, 0] }), [input_ids, [0, 0, 1, 1]]);
  assert.deepEqual(tokensOf({ input_ids, labels: [-100, 6, 7, -100], attention_mask: [1, 1, 1, 0] }), [
    [5, 6, 7],
    [0, 1, 1],
  ]);
  assert.deepEqual(tokensOf({ input_ids, completion_mask: [0, 0, 1, 1] }), [input_ids, [0, 0, 1, 1]]);
  assert.deepEqual(tokensOf({ input_ids: "[5, 6]", assistant_masks: [false, true] }), [
    [5, 6],
    [0, 1],
  ]);
  refused(
    { input_ids, labels: [-100, 7, 0, -100] },
    /labels\[1\] is 7 and input_ids\[1\] is 6 .* Labels stand at the token/,
  );
  refused({ input_ids, labels: [1] }, /labels has 1 entries \(expected 4/);
  refused({ input_ids, completion_mask: [0, 0, 1, 2] }, /completion_mask has 2 \(expected 0 and 1\)/);
  refused({ input_ids, labels: input_ids, loss_mask: [0, 0, 0, 0] }, /labels and loss_mask both say/);
  refused({ input_ids: [1.5] }, /input_ids\[0\] is the number 1\.5/);
  refused({ input_ids: [-1] }, /input_ids has -1/);
});

test("variables for the chat template beside a conversation: a map, the JSON of one, or none", () => {
  const messages = [user("q"), assistant("a")];
  const chat = { prompt: [user("q")], completion: [assistant("a")] };
  const conversations = [
    { from: "human", value: "q" },
    { from: "gpt", value: "a" },
  ];
  for (const row of [{ messages }, chat, { conversations }]) {
    const kwargsOf = (chat_template_kwargs: unknown): unknown =>
      (read({ ...row, chat_template_kwargs }) as { kwargs?: unknown }).kwargs;
    assert.deepEqual(kwargsOf({ enable_thinking: false }), { enable_thinking: false });
    assert.deepEqual(kwargsOf('{"enable_thinking": false}'), { enable_thinking: false });
    for (const none of [null, "", undefined]) assert.equal(kwargsOf(none), undefined);
    refused(
      { ...row, chat_template_kwargs: [1] },
      /^d\.jsonl:1: chat_template_kwargs is an array of 1 \(expected a map/,
    );
    assert.deepEqual(unreadColumns({ ...row, chat_template_kwargs: {} }, detectFormat([rowOf(row)], "auto")), []);
  }
  const text = { prompt: "q", completion: "a", chat_template_kwargs: { x: 1 } };
  assert.deepEqual(unreadColumns(text, "prompt_completion"), ["chat_template_kwargs"]);
});
