// Masks of templates whose prompt opens thoughts, that write a turn in an odd place or look at other turns, and of
// conversations of any length.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Message } from "../conversations/sample.js";
import { testTokenizer } from "../tokenizer/testing-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { renderWithMask, renderWithTurns } from "./template.js";
import { CALLS, CLOSES, OPENS, PLAIN } from "./testing-templates.js";

const user = (content: string): Message => ({ role: "user", content });
const says = (content: string, more: object = {}): Message => ({ role: "assistant", content, ...more });
const TURNS = [user("q1"), says("a1"), user("q2"), says("a2")];

function trainedTexts(tokenizer: Tokenizer, messages: Message[]): string[] {
  const { text, trained, turns } = renderWithMask(tokenizer, messages);
  assert.equal(turns.length, trained.length);
  for (const i of turns) assert.equal(messages[i].role, "assistant");
  return trained.map((span) => text.slice(...span));
}

test("a prompt that opens thoughts: what it has is not trained, earlier turns are without", (t) => {
  const opens = testTokenizer(t, { chat_template: OPENS });
  assert.deepEqual(trainedTexts(opens, TURNS), ["a1<|im_end|>", "\n</think>\n\na2<|im_end|>"]);
  const thoughts = [
    user("q"),
    says("a", { reasoning_content: "so" }),
    user("r"),
    says("b", { reasoning_content: "hm" }),
  ];
  assert.deepEqual(trainedTexts(opens, thoughts), ["a<|im_end|>", "hm\n</think>\n\nb<|im_end|>"]);
  const calls = [user("q"), says("x"), { role: "tool", content: "5" }, says("is 5")];
  assert.deepEqual(trainedTexts(opens, calls), ["\n</think>\n\nx<|im_end|>", "\n</think>\n\nis 5<|im_end|>"]);
  assert.deepEqual(trainedTexts(opens, [says("first"), user("q"), says("<think>\n")]), [
    "first<|im_end|>",
    "\n</think>\n\n<think>\n<|im_end|>",
  ]);
});

test("of gpt-oss's channels the assistant's are trained, thoughts and calls too; what a tool says is not", (t) => {
  const template = new URL("../../../test/golden/templates/gpt-oss.jinja", import.meta.url);
  const harmony = testTokenizer(t, { chat_template: readFileSync(template, "utf8") });
  const [easy, hard] = [says("4", { thinking: "easy" }), says("6", { thinking: "also easy" })];
  assert.deepEqual(trainedTexts(harmony, [user("2+2?"), says("4")]), ["<|channel|>final<|message|>4<|return|>"]);
  // Thoughts of earlier turns are left out by the template.
  assert.deepEqual(
    trainedTexts(harmony, [{ role: "system", content: "Be short." }, user("q"), easy, user("r"), hard]),
    [
      "<|channel|>final<|message|>4<|end|>",
      "<|channel|>analysis<|message|>also easy<|end|><|start|>assistant<|channel|>final<|message|>6<|return|>",
    ],
  );
  const call = { type: "function", function: { name: "sum", arguments: { a: 2 } } };
  const calls = says("", { thinking: "I call.", tool_calls: [call] });
  const called = ' to=functions.sum<|channel|>commentary json<|message|>{"a": 2}<|call|>';
  const answers = [user("q"), calls, { role: "tool", name: "sum", content: "5" }];
  assert.deepEqual(trainedTexts(harmony, answers), [
    `<|channel|>analysis<|message|>I call.<|end|><|start|>assistant${called}`,
  ]);
  assert.deepEqual(trainedTexts(harmony, [...answers, says("It is 5.")]), [
    called,
    "<|channel|>final<|message|>It is 5.<|return|>",
  ]);
});

test("a prompt with an empty block of thoughts: where a turn has it, too, only the words are trained; where it has others, all of them", (t) => {
  const closes = testTokenizer(t, { chat_template: CLOSES });
  assert.deepEqual(trainedTexts(closes, TURNS), ["a1<|im_end|>", "a2<|im_end|>"]);
  assert.deepEqual(trainedTexts(closes, [user("q"), says("a", { reasoning_content: "so" })]), [
    "<think>\nso\n</think>\n\na<|im_end|>",
  ]);
  assert.deepEqual(trainedTexts(closes, [user("q"), says("<think>\n\n</think>\n\n")]), [
    "<think>\n\n</think>\n\n<|im_end|>",
  ]);
});

test("turns are found in conversations of any length, and where the template loops over a part of them", (t) => {
  const long = Array.from({ length: 5000 }, (_, i) => (i % 2 === 0 ? user(`${i}`) : says(`${i % 7}`)));
  const expected = long.flatMap(({ content }, i) => (i % 2 === 1 ? [`${content}<|im_end|>`] : []));
  assert.deepEqual(trainedTexts(testTokenizer(t, { chat_template: PLAIN }), long), expected);
  const sliced = `{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}[{{ messages[0].content }}]{% else %}{% set rest = messages %}{% endif %}${PLAIN.replace("in messages", "in rest")}`;
  const tokenizer = testTokenizer(t, { chat_template: sliced });
  assert.deepEqual(trainedTexts(tokenizer, [{ role: "system", content: "S" }, ...TURNS]), [
    "a1<|im_end|>",
    "a2<|im_end|>",
  ]);
  const { text, turns } = renderWithTurns(tokenizer, TURNS);
  assert.deepEqual(
    turns.map((part) => part && text.slice(...part)),
    [
      "<|im_start|>user\nq1<|im_end|>\n",
      "<|im_start|>assistant\na1<|im_end|>\n",
      "<|im_start|>user\nq2<|im_end|>\n",
      "<|im_start|>assistant\na2<|im_end|>\n",
    ],
  );
});

test("a turn in which the template writes what others say is not taken for the assistant's alone", (t) => {
  // The answer of a tool is written in the turn that calls it.
  const ahead = CALLS.replace(
    "<|im_end|>\n{% endfor %}",
    "{% if m.tool_calls %} = {{ messages[loop.index].content }}{% endif %}<|im_end|>\n{% endfor %}",
  ).replace("{% for m in messages %}", "{% for m in messages if m.role != 'tool' %}");
  const call = says("", { tool_calls: [{ function: { name: "f", arguments: {} } }] });
  const messages = [user("q"), call, { role: "tool", content: "secret" }, says("a")];
  const tokenizer = testTokenizer(t, { chat_template: ahead });
  assert.throws(() => renderWithMask(tokenizer, messages), {
    name: "UserError",
    message: /messages\[1\] cannot be told apart/,
  });
  assert.deepEqual(trainedTexts(tokenizer, [user("q"), says("b")]), ["b<|im_end|>"]);
  const { turns } = renderWithTurns(tokenizer, messages);
  assert.equal(turns[1], undefined);
});

test("words that hold what marks a turn in a rendering change nothing", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: PLAIN });
  for (const content of ["\uFDD41;x\uFDD5", "\uFDD5", "\uFDD2probe\uFDD2"])
    assert.deepEqual(trainedTexts(tokenizer, [user(content), says(content)]), [`${content}<|im_end|>`]);
});
