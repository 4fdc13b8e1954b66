import assert from "node:assert/strict";
import { test } from "node:test";
import type { Document } from "./documents.js";
import { type DataReport, type DocumentSettings, makeDocuments } from "./make-documents.js";
import type { Row } from "./rows.js";
import { CHATML, CHATML_TAGGED, CHATML_THINKING, SPECIAL, testTokenizer } from "./tokenizer/testing-tokenizer.js";

const rowsOf = (...values: Record<string, unknown>[]): Row[] =>
  values.map((value, i) => ({ value, place: `d.jsonl:${i + 1}` }));
const settings = (more: Partial<DocumentSettings> = {}): DocumentSettings => ({
  format: "auto",
  columns: {},
  assistant_only_loss: true,
  completion_only_loss: true,
  max_length: 512,
  ...more,
});
const bytes = (text: string): number[] => [...Buffer.from(text)];
const { imStart, imEnd, endoftext } = SPECIAL;
const HELLO = 259;
const NEWLINES = 262;
const AB = 263;

/** What lengths cost is the preview's to test, and what a template shows its own. */
const countsOf = ({ lengths: _, fields: __, ...counts }: DataReport) => counts;

/** Tokens with a mark at those that are trained: [token, 0 or 1]. */
const marked = ({ tokens, trained }: Document): [number, number][] =>
  Array.from(tokens, (token, i) => [token, trained[i]]);
const off = (...tokens: number[]): [number, number][] => tokens.map((token) => [token, 0]);
const on = (...tokens: number[]): [number, number][] => tokens.map((token) => [token, 1]);

const TALK = {
  messages: [
    { role: "user", content: "hello" },
    { role: "assistant", content: "hello\u00fc" },
    { role: "user", content: "b" },
    { role: "assistant", content: "\n\nab" },
  ],
};
const header = (role: string): number[] => [imStart, ...bytes(`${role}\n`)];

for (const [name, chat_template] of Object.entries({ CHATML, CHATML_TAGGED })) {
  test(`${name}: a conversation of two turns, token by token`, (t) => {
    const { documents, report } = makeDocuments(rowsOf(TALK), testTokenizer(t, { chat_template }), settings());
    // "assistant\n" + "\n\nab": the first two newlines of the three stay apart, as generation sees them.
    const expected = [
      ...off(...header("user"), HELLO, imEnd, 10, ...header("assistant")),
      ...on(HELLO, ...bytes("\u00fc"), imEnd),
      ...off(10, ...header("user"), ...bytes("b"), imEnd, 10, ...header("assistant")),
      ...on(10, 10, AB, imEnd),
      ...off(10),
    ];
    assert.deepEqual(marked(documents[0]), expected);
    assert.deepEqual(countsOf(report), {
      formats: ["messages"],
      rows: 1,
      tokens: expected.length,
      trainedTokens: 8,
      trainedShare: 8 / expected.length,
      truncated: 0,
      split: 0,
      dropped: 0,
      unusedColumns: {},
    });
  });
}

test("with thoughts: the block of the last turn is trained, too", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: CHATML_THINKING });
  const {
    documents: [document],
  } = makeDocuments(rowsOf(TALK), tokenizer, settings());
  const runs = marked(document)
    .map(([token, flag]) => (flag ? tokenizer.decode([token]) || `#${token}` : " "))
    .join("")
    .split(/ +/);
  assert.deepEqual(
    runs.filter((run) => run !== ""),
    ["hello\ufffd\ufffd#266", "<think>\n\n</think>\n\n\n\nab#266"],
  );
});

test("all tokens of a conversation are trained when asked, and the ids are those of the whole text", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: CHATML });
  const {
    documents: [document],
    report,
  } = makeDocuments(rowsOf(TALK), tokenizer, settings({ assistant_only_loss: false }));
  assert.deepEqual([...document.trained], [0, ...new Array<number>(document.tokens.length - 1).fill(1)]);
  assert.ok(document.tokens.includes(NEWLINES));
  assert.equal(report.trainedTokens, document.tokens.length - 1);
});

test("prompt and completion: encoded apart, closed by the end token", (t) => {
  const rows = rowsOf({ prompt: "hel", completion: "lo" });
  const tokenizer = testTokenizer(t);
  const {
    documents: [document],
  } = makeDocuments(rows, tokenizer, settings());
  assert.deepEqual(marked(document), [...off(256, ...bytes("l")), ...on(...bytes("lo"), imEnd)]);
  const {
    documents: [all],
  } = makeDocuments(rows, tokenizer, settings({ completion_only_loss: false }));
  assert.deepEqual(marked(all), [...off(256), ...on(...bytes("llo"), imEnd)]);
  const bos = testTokenizer(t, { bos_token: "<|endoftext|>", add_bos_token: true });
  assert.deepEqual(marked(makeDocuments(rows, bos, settings()).documents[0])[0], [endoftext, 0]);
});

test("columns map question and answer to prompt and completion", (t) => {
  const rows = rowsOf({ question: "b", answer: "ab" });
  const { documents, report } = makeDocuments(
    rows,
    testTokenizer(t),
    settings({ columns: { prompt: "question", completion: "answer" } }),
  );
  assert.deepEqual(marked(documents[0]), [...off(...bytes("b")), ...on(AB, imEnd)]);
  assert.deepEqual(report.formats, ["prompt_completion"]);
});

test("prompt and completion as messages: the completion's turns alone", (t) => {
  const row = { prompt: TALK.messages.slice(0, 3), completion: TALK.messages.slice(3) };
  for (const chat_template of [CHATML, CHATML_TAGGED]) {
    const tokenizer = testTokenizer(t, { chat_template });
    const {
      documents: [document],
    } = makeDocuments(rowsOf(row), tokenizer, settings());
    const {
      documents: [whole],
    } = makeDocuments(rowsOf(TALK), tokenizer, settings());
    const trained = marked(document)
      .filter(([, flag]) => flag === 1)
      .map(([token]) => token);
    assert.deepEqual(trained, [10, 10, AB, imEnd]);
    assert.equal(tokenizer.decode(document.tokens), tokenizer.decode(whole.tokens));
    const { report } = makeDocuments(rowsOf(row), tokenizer, settings({ completion_only_loss: false }));
    assert.equal(report.trainedTokens, report.tokens - 1);
  }
  const counting = testTokenizer(t, {
    chat_template:
      "{{ messages | length }}{% for m in messages %}{{ '<' + m.role + '>' + m.content + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
  });
  // The prompt alone is rendered otherwise, but the parts of the completion's messages are sure.
  const [counted] = makeDocuments(rowsOf(row), counting, settings()).documents;
  const last = marked(counted).filter(([, flag]) => flag === 1);
  assert.deepEqual(
    last.map(([token]) => token),
    [10, 10, AB, imEnd],
  );
});

test("text: first and last token are put around it, and long ones are split without loss", (t) => {
  const tokenizer = testTokenizer(t, { bos_token: "<|endoftext|>", add_bos_token: true });
  const {
    documents: [short],
  } = makeDocuments(rowsOf({ text: "hello" }), tokenizer, settings());
  assert.deepEqual(marked(short), [...off(endoftext), ...on(HELLO, imEnd)]);
  for (const [length, sizes] of [
    [10, [8, 4]],
    [6, [8]],
    [7, [7, 2]],
    [14, [8, 8]],
    [15, [8, 7, 2]],
  ] as const) {
    const text = "xyz".repeat(9).slice(0, length);
    const { documents, report } = makeDocuments(rowsOf({ text }), tokenizer, settings({ max_length: 8 }));
    assert.deepEqual(
      documents.map(({ tokens }) => tokens.length),
      sizes,
    );
    assert.deepEqual(
      documents.flatMap(({ tokens }) => [...tokens]),
      [endoftext, ...bytes(text), imEnd],
    );
    assert.equal(report.trainedTokens, length + 2 - sizes.length);
    assert.deepEqual([report.split, report.truncated, report.dropped], [sizes.length > 1 ? 1 : 0, 0, 0]);
  }
});

test("conversations and completions are cut at the end; those without a trained token left are dropped", (t) => {
  const rows = rowsOf(
    { prompt: "xyzxyz", completion: "abab" },
    { prompt: "xyzxyzxyz", completion: "ab" },
    { prompt: "x", completion: "y" },
  );
  const { documents, report } = makeDocuments(rows, testTokenizer(t), settings({ max_length: 8 }));
  assert.deepEqual(
    documents.map(({ place }) => place),
    ["d.jsonl:1", "d.jsonl:3"],
  );
  assert.deepEqual(marked(documents[0]), [...off(...bytes("xyzxyz")), ...on(AB, AB)]);
  assert.deepEqual(
    [report.truncated, report.dropped, report.tokens, report.trainedTokens, report.rows],
    [2, 1, 11, 4, 3],
  );
});

test("refused: no token trained, with the way out", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: CHATML });
  const refuses = (values: Record<string, unknown>[], more: Partial<DocumentSettings>, message: RegExp): void =>
    assert.throws(() => makeDocuments(rowsOf(...values), tokenizer, settings(more)), { name: "UserError", message });
  refuses(
    [{ messages: TALK.messages.slice(0, 1) }],
    {},
    /^d\.jsonl:1: no token of the row is trained \(format messages, expected at least one\)\. They have no turn of the assistant .*assistant_only_loss: false/,
  );
  refuses([TALK, TALK], { max_length: 8 }, /2 of them were cut at max_length 8; set a larger max_length\./);
  refuses([{ text: "" }], {}, /They are shorter than two tokens; check that the columns/);
});

test("refused: rows that are wrong, with their place", (t) => {
  const tokenizer = testTokenizer(t);
  assert.throws(() => makeDocuments(rowsOf({ text: "a" }, { text: 3 }), tokenizer, settings({ format: "text" })), {
    name: "UserError",
  });
  assert.throws(() => makeDocuments(rowsOf(TALK), tokenizer, settings()), {
    name: "UserError",
    message: /^d\.jsonl:1: .* no chat template/,
  });
  assert.throws(() => makeDocuments(rowsOf({ question: "a" }), tokenizer, settings()), {
    name: "UserError",
    message: /the first rows have the keys "question"/,
  });
});

test("tokens that begin and end a text are put where the text has not written them itself", (t) => {
  const both = testTokenizer(t, { bos_token: "<|endoftext|>", add_bos_token: true });
  const one = (row: Record<string, unknown>, tokenizer = both, more: Partial<DocumentSettings> = {}) =>
    marked(makeDocuments(rowsOf(row), tokenizer, settings(more)).documents[0]);
  const whole = [...off(endoftext), ...on(HELLO, imEnd)];
  for (const text of ["hello", "<|endoftext|>hello", "hello<|im_end|>", "<|endoftext|>hello<|im_end|>"])
    assert.deepEqual(one({ text }), whole, text);
  const asked = [...off(endoftext, ...bytes("b")), ...on(HELLO, imEnd)];
  for (const [prompt, completion] of [
    ["b", "hello"],
    ["<|endoftext|>b", "hello"],
    ["b", "hello<|im_end|>"],
    ["<|endoftext|>b", "hello<|im_end|>"],
  ])
    assert.deepEqual(one({ prompt, completion }), asked, prompt + completion);
  // The end of a prompt is not the end of what is learnt, and a text may hold the tokens elsewhere.
  assert.deepEqual(one({ prompt: "b<|im_end|>", completion: "hello" }), [
    ...off(endoftext, ...bytes("b"), imEnd),
    ...on(HELLO, imEnd),
  ]);
  assert.deepEqual(one({ text: "hello<|im_end|>\n" }), [...off(endoftext), ...on(HELLO, imEnd, 10, imEnd)]);
  assert.deepEqual(one({ prompt: "", completion: "<|endoftext|>b" }), [...off(endoftext), ...on(...bytes("b"), imEnd)]);
  const same = testTokenizer(t, { bos_token: "<|im_end|>", add_bos_token: true });
  assert.deepEqual(one({ text: "hello" }, same), [...off(imEnd), ...on(HELLO, imEnd)]);
});
