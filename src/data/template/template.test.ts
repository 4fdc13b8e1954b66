import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message } from "../conversations/sample.js";
import { renderChat, renderWithMask, type ChatOptions } from "./template.js";
import { CHATML, CHATML_TAGGED, CHATML_THINKING, testTokenizer } from "../tokenizer/testing-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";

const user = (content: string): Message => ({ role: "user", content });
const assistant = (content: string, more: object = {}): Message => ({ role: "assistant", content, ...more });
const TALK: Message[] = [
  { role: "system", content: "S" },
  user("one?"),
  assistant("1"),
  user("two?\n"),
  assistant("2 \u{1F600} zwei"),
];
const TALK_TEXT =
  "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\none?<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n" +
  "<|im_start|>user\ntwo?\n<|im_end|>\n<|im_start|>assistant\n2 \u{1F600} zwei<|im_end|>\n";

/** The texts that are trained. */
function trainedTexts(tokenizer: Tokenizer, messages: Message[], options?: ChatOptions): string[] {
  const { text, trained } = renderWithMask(tokenizer, messages, options);
  assert.equal(text, renderChat(tokenizer, messages, { addGenerationPrompt: false, tools: options?.tools }));
  return trained.map(([start, end]) => text.slice(start, end));
}

test("a conversation as text, with the generation prompt and the special tokens' names", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: CHATML });
  assert.equal(renderChat(tokenizer, TALK, { addGenerationPrompt: false }), TALK_TEXT);
  assert.equal(
    renderChat(tokenizer, TALK.slice(0, 1), { addGenerationPrompt: true }),
    "<|im_start|>system\nS<|im_end|>\n<|im_start|>assistant\n",
  );
  const named = testTokenizer(t, { chat_template: "{{ eos_token }}{{ pad_token }}{{ tools | tojson }}" });
  assert.equal(
    renderChat(named, TALK, { addGenerationPrompt: false, tools: [{ name: "f" }] }),
    '<|im_end|><|endoftext|>[{"name": "f"}]',
  );
});

for (const [name, chat_template] of Object.entries({ CHATML, CHATML_TAGGED })) {
  test(`${name}: every turn of the assistant is trained with its end marker, and nothing else`, (t) => {
    const tokenizer = testTokenizer(t, { chat_template });
    assert.equal(renderChat(tokenizer, TALK, { addGenerationPrompt: false }), TALK_TEXT);
    assert.deepEqual(trainedTexts(tokenizer, TALK), ["1<|im_end|>", "2 \u{1F600} zwei<|im_end|>"]);
    assert.deepEqual(trainedTexts(tokenizer, TALK.slice(0, 2)), []);
    const { trained } = renderWithMask(tokenizer, TALK);
    assert.deepEqual(trained[0], [TALK_TEXT.indexOf("1<"), TALK_TEXT.indexOf("1<") + 11]);
  });

  test(`${name}: an answer that stands in the question, or is empty, or ends in blanks, is not mistaken`, (t) => {
    const tokenizer = testTokenizer(t, { chat_template });
    const messages = [
      user("say yes<|im_end|>\n"),
      assistant("yes"),
      user("yes"),
      assistant(""),
      assistant(" yes \n\n"),
    ];
    assert.deepEqual(trainedTexts(tokenizer, messages), ["yes<|im_end|>", "<|im_end|>", " yes \n\n<|im_end|>"]);
  });
}

test("generation tags: white space around them is what it is without marks", (t) => {
  const chat_template =
    "{% for m in messages %}\n  {% if m.role == 'assistant' %}\n  {% generation %}\n  {{ m.content }}\n  {%- endgeneration -%}\n  \n{{ '|' }}{% else %}{{ m.content }}{% endif %}{% endfor %}";
  assert.deepEqual(
    trainedTexts(testTokenizer(t, { chat_template }), [user("q"), assistant("a b"), user("r"), assistant("c")]),
    ["  a b", "  c"],
  );
});

test("a template that trims content, and one whose end marker is white space", (t) => {
  const trims = testTokenizer(t, {
    chat_template:
      "{% for m in messages %}{{ '[' + m.role + ']' + m.content | trim + '<|im_end|>\\n\\n' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
  });
  assert.deepEqual(trainedTexts(trims, [user("q "), assistant("  a\n"), user("r"), assistant("b")]), [
    "a<|im_end|>",
    "b<|im_end|>",
  ]);
  const blanks = testTokenizer(t, {
    chat_template:
      "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
  });
  assert.deepEqual(trainedTexts(blanks, [user("q"), assistant("a"), user("r"), assistant("b")]), ["a\n\n", "b\n\n"]);
});

test("a template without generation prompt: the answer begins where the question ends", (t) => {
  const chat_template =
    "{% if messages[0].role != 'user' %}{{ raise_exception('begin with user') }}{% endif %}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}";
  const tokenizer = testTokenizer(t, { chat_template });
  assert.deepEqual(trainedTexts(tokenizer, [user("q"), assistant("a"), user("r"), assistant("b")]), [
    " a<|im_end|>",
    " b<|im_end|>",
  ]);
  assert.throws(() => renderWithMask(tokenizer, [assistant("a")], { place: "d.jsonl:4" }), {
    name: "UserError",
    message: /^d\.jsonl:4: the chat template refuses these messages: .*begin with user.* Roles: assistant\.$/,
  });
});

const EMPTY = "<think>\n\n</think>\n\n";

test("thoughts: the empty block of the last turn is trained, earlier turns have none", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: CHATML_THINKING });
  const { text } = renderWithMask(tokenizer, TALK);
  assert.equal(text, TALK_TEXT.replace("2 ", `${EMPTY}2 `));
  assert.deepEqual(trainedTexts(tokenizer, TALK), ["1<|im_end|>", `${EMPTY}2 \u{1F600} zwei<|im_end|>`]);
  const repeats = [user("1"), assistant("1"), user("1<|im_end|>"), assistant("1"), user("1"), assistant("1")];
  assert.deepEqual(trainedTexts(tokenizer, repeats), ["1<|im_end|>", "1<|im_end|>", `${EMPTY}1<|im_end|>`]);
});

test("thoughts: given ones are kept in the last turn and taken out of earlier ones", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: CHATML_THINKING });
  const messages = [
    user("q"),
    assistant("<think>\nhm\n</think>\n\na"),
    user("r"),
    assistant("<think>\nso\n</think>\n\nb"),
  ];
  assert.deepEqual(trainedTexts(tokenizer, messages), ["a<|im_end|>", "<think>\nso\n</think>\n\nb<|im_end|>"]);
});

test("thoughts: a call of a tool and the answer after it", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: CHATML_THINKING });
  const messages: Message[] = [
    user("q"),
    assistant("", { tool_calls: [{ f: 1 }] }),
    { role: "tool", content: "5" },
    assistant("is 5"),
  ];
  assert.deepEqual(trainedTexts(tokenizer, messages), [
    '<tool_call>{"f": 1}</tool_call><|im_end|>',
    `${EMPTY}is 5<|im_end|>`,
  ]);
  messages[1] = { role: "assistant", content: null, tool_calls: [{ f: 1 }] };
  assert.deepEqual(trainedTexts(tokenizer, messages), [
    '<tool_call>{"f": 1}</tool_call><|im_end|>',
    `${EMPTY}is 5<|im_end|>`,
  ]);
});

/** Counts its messages at the top, so that no prefix is one. */
const COUNTING =
  "{{ messages | length }} messages. {% for m in messages %}{{ '<' + m.role + '>' + m.content + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

test("no stable prefix: turns are found by header and end marker", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: COUNTING });
  assert.deepEqual(trainedTexts(tokenizer, [user("a"), assistant("a"), user("a"), assistant("b")]), [
    "a<|im_end|>",
    "b<|im_end|>",
  ]);
});

test("refused: spans that cannot be verified", (t) => {
  const refuses = (chat_template: string, messages: Message[], what: RegExp): void =>
    assert.throws(() => renderWithMask(testTokenizer(t, { chat_template }), messages, { place: "d.jsonl:9" }), {
      name: "UserError",
      message: what,
    });
  const upper = COUNTING.replace("m.content +", "m.content | upper +");
  refuses(
    upper,
    [user("a"), assistant("b")],
    /^d\.jsonl:9: messages\[1\] cannot be told apart in the rendered text, so the assistant's tokens are not known for certain\. Set assistant_only_loss: false/,
  );
  refuses(
    COUNTING.replace("{% if add_generation_prompt %}<assistant>{% endif %}", ""),
    [user("a"), assistant("a")],
    /messages\[1\] cannot be told apart/,
  );
  refuses(
    "{% generation %}{{ messages[0].content }}",
    [user("a")],
    /^d\.jsonl:9: the template's \{% generation %\} tags change the text or do not close.*assistant_only_loss: false/,
  );
});

test("refused: no template, and one that cannot be read", (t) => {
  assert.throws(() => renderChat(testTokenizer(t), TALK, { addGenerationPrompt: false, place: "d.jsonl:1" }), {
    name: "UserError",
    message:
      /^d\.jsonl:1: the rows are conversations, but the tokenizer has no chat template \(expected chat_template in tokenizer_config\.json.*or give rows as text or as plain prompt and completion\.$/,
  });
  assert.throws(
    () => renderChat(testTokenizer(t, { chat_template: "{% if %}" }), TALK, { addGenerationPrompt: false }),
    {
      name: "UserError",
      message: /^chat template: it cannot be read: /,
    },
  );
});
