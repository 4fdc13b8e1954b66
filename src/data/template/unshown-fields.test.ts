// What a template leaves out is told with its count; where the assistant wrote it, rows are refused.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message } from "../conversations/sample.js";
import { testTokenizer } from "../tokenizer/testing-tokenizer.js";
import { CALLS, OPENS, PLAIN } from "./testing-templates.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type FieldWatch, type UnshownField, unshownNotes, unshownOf, watchFields } from "./unshown-fields.js";

const says = (content: string | null, more: object = {}): Message => ({ role: "assistant", content, ...more });
const user: Message = { role: "user", content: "q" };
const CALL = { type: "function", function: { name: "f", arguments: { a: 1 } } };
const TOOLS = [{ type: "function", function: { name: "f", parameters: {} } }];

function unshownFields(tokenizer: Tokenizer, rows: Parameters<FieldWatch["see"]>[0][]): UnshownField[] {
  const watch = watchFields(tokenizer);
  for (const row of rows) watch.see(row);
  return unshownOf(watch.taken());
}

test("keys that a template does not show, each with its rows", (t) => {
  const rows = [
    { messages: [user, says("a", { reasoning_content: "because" })], place: "d.jsonl:1" },
    { messages: [{ ...user, name: "Ann" }, says("a", { reasoning_content: null })], place: "d.jsonl:2" },
    {
      messages: [user, says("a", { thinking: "so" }), user, says("b", { reasoning_content: "hm" })],
      place: "d.jsonl:3",
    },
    { messages: [user, says("", { tool_calls: [CALL] })], tools: TOOLS, place: "d.jsonl:4" },
  ];
  const keys = (chat_template: string): [string, number, string | undefined][] =>
    unshownFields(testTokenizer(t, { chat_template }), rows).map(({ key, rows: count, place }) => [key, count, place]);
  const [name, tools] = [
    ["name", 1, "d.jsonl:2"],
    ["tools", 1, "d.jsonl:4"],
  ] as const;
  const thoughts = [
    ["reasoning_content", 2, "d.jsonl:1"],
    ["thoughts before the last question", 1, "d.jsonl:3"],
  ] as const;
  const sorted = (list: unknown[]): string[] => list.map(String).sort();
  assert.deepEqual(sorted(keys(PLAIN)), sorted([...thoughts, name, tools, ["tool_calls", 1, "d.jsonl:4"]]));
  assert.deepEqual(sorted(keys(CALLS)), sorted([...thoughts, name, tools]));
  // A template may show arguments without the function's name, or the name alone.
  for (const part of ["{{ c.function.name }} ", "{{ c.function.arguments | tojson }}"])
    assert.deepEqual(sorted(keys(CALLS.replace(part, ""))), sorted([...thoughts, name, tools]));
  // Thoughts are shown in the last turn alone.
  assert.deepEqual(sorted(keys(OPENS)), sorted([thoughts[1], name, tools, ["tool_calls", 1, "d.jsonl:4"]]));
});

test("a note for each, and a refusal for what the assistant writes", (t) => {
  const plain = testTokenizer(t, { chat_template: PLAIN });
  const notes = (messages: Message[], tools?: unknown[]): string[] =>
    unshownNotes(unshownFields(plain, [{ messages, tools, place: "d.jsonl:7" }]));
  assert.deepEqual(notes([user, says("a")]), []);
  assert.match(
    notes([user, says("a", { thinking: "so" })])[0],
    /^the chat template does not show "thinking" of 1 row, first in d\.jsonl:7: the model does not see it\. /,
  );
  assert.match(notes([user, says("a")], TOOLS)[0], /does not show "tools" of 1 row/);
  assert.throws(() => notes([user, says(null, { tool_calls: [CALL] })]), {
    name: "UserError",
    message:
      /^d\.jsonl:7: the chat template does not show "tool_calls" of 1 row, so what the assistant writes there would not be trained\. Give/,
  });
  const silent = testTokenizer(t, {
    chat_template: "{% for m in messages %}{{ m.role }}{{ m.content if m.role == 'user' }}{% endfor %}",
  });
  const fields = unshownFields(silent, [{ messages: [user, says("a")] }]);
  assert.deepEqual(
    fields.map(({ key }) => key),
    ["content of role assistant"],
  );
  assert.throws(() => unshownNotes(fields), /does not show "content of role assistant"/);
  const toolless = testTokenizer(t, {
    chat_template: PLAIN.replace("{{ m.content }}", "{{ m.content if m.role != 'tool' }}"),
  });
  assert.match(
    unshownNotes(
      unshownFields(toolless, [{ messages: [user, says("a"), { role: "tool", content: "5" }, says("b")] }]),
    )[0],
    /"content of role tool"/,
  );
});

test("thoughts before the last question, which many templates leave out, have a note of their own", (t) => {
  const inside = (thought: string): Message => says(`<think>\n${thought}\n</think>\n\na`);
  const rows = [
    [user, says("a", { reasoning_content: "T1" }), user, says("b", { reasoning_content: "T2" })],
    [user, says("a", { thinking: "T1" }), user, says("b")],
    [user, inside("T1"), user, inside("T2")],
    // These have no earlier ones.
    [user, says("a", { reasoning_content: "T1" })],
    [user, says("a"), user, says("b", { reasoning_content: "T2" }), says("c")],
  ].map((messages, i) => ({ messages, place: `d.jsonl:${i + 1}` }));
  const notes = (chat_template: string, some: typeof rows): string[] =>
    unshownNotes(unshownFields(testTokenizer(t, { chat_template }), some));
  const stripsContent = OPENS.replace("{{ m.content }}", "{{ m.content.split('</think>') | last }}");
  const note =
    /^the chat template leaves out thoughts of answers before the last question, in (\d rows?), first in (\S+):/;
  const found = (chat_template: string, some: typeof rows): unknown =>
    notes(chat_template, some).map((line) => note.exec(line)?.slice(1));
  assert.deepEqual(found(stripsContent, rows), [["3 rows", "d.jsonl:1"]]);
  for (const [i, row] of rows.slice(0, 3).entries())
    assert.deepEqual(found(stripsContent, [row, rows[3]]), [["1 row", `d.jsonl:${i + 1}`]]);
  assert.deepEqual(notes(stripsContent, rows.slice(3)), []);
  // A template that shows the content as it is shows thoughts within it.
  assert.deepEqual(notes(OPENS, [rows[2]]), []);
  assert.equal(notes(PLAIN, rows.slice(0, 1)).length, 2);
});
