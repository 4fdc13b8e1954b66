// Arguments as JSON text in templates that write them as JSON, go over them, or take a text as it is.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message } from "../conversations/sample.js";
import { parseJsonRow } from "../json-values.js";
import { testTokenizer } from "../tokenizer/testing-tokenizer.js";
import { renderChat, renderWithMask } from "./template.js";
import { CALLS, EITHER, ITEMS, PLAIN } from "./testing-templates.js";

const calling = (value: unknown): Message[] => [
  { role: "user", content: "go" },
  { role: "assistant", content: "", tool_calls: [{ type: "function", function: { name: "f", arguments: value } }] },
  { role: "tool", content: "ok" },
];
const TEXTS = [
  '{"city": "Rome"}',
  '{"price":10.0,"id":9007199254740993,"2":"b","1":"a"}',
  "{}",
  '{"a":{"b":[1,true,null]}}',
];

test("a text that is an object is written once, as the object would be", (t) => {
  for (const chat_template of [CALLS, ITEMS]) {
    const tokenizer = testTokenizer(t, { chat_template });
    const render = (value: unknown): string => renderChat(tokenizer, calling(value), { addGenerationPrompt: true });
    for (const text of TEXTS) assert.equal(render(text), render(parseJsonRow(text)));
    assert.deepEqual(
      renderWithMask(tokenizer, calling(TEXTS[1])).text,
      render(TEXTS[1])
        .replace("<|im_start|>assistant\n<", "<")
        .replace(/<\|im_start\|>assistant\n$/, ""),
    );
  }
  const tokenizer = testTokenizer(t, { chat_template: CALLS });
  assert.match(
    renderChat(tokenizer, calling(TEXTS[1]), { addGenerationPrompt: false }),
    /CALL f \{"price": 10\.0, "id": 9007199254740993, "2": "b", "1": "a"\}</,
  );
});

test("a template that takes a text gets it as it is, and so does one that shows no calls", (t) => {
  const either = testTokenizer(t, { chat_template: EITHER });
  for (const text of TEXTS)
    assert(renderChat(either, calling(text), { addGenerationPrompt: false }).includes(`CALL f ${text}<`));
  assert.match(renderChat(either, calling({ a: 10.5 }), { addGenerationPrompt: false }), /CALL f \{"a": 10.5\}</);
  const plain = testTokenizer(t, { chat_template: PLAIN });
  assert(!renderChat(plain, calling(TEXTS[0]), { addGenerationPrompt: false }).includes("CALL"));
});

test("a text that is no object stays one", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: CALLS });
  for (const text of ["Rome", "[1]", "3", '{"a": ', '"x"', ""])
    assert(
      renderChat(tokenizer, calling(text), { addGenerationPrompt: false }).includes(`CALL f ${JSON.stringify(text)}<`),
    );
});
