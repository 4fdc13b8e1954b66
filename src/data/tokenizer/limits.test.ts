// Tokenizers that lie, and texts that are slow to encode: each kind in three ways, and long texts that must still work.
import assert from "node:assert/strict";
import { test } from "node:test";

import { TIME_LIMITS, TOKENIZER_LIMITS as LIMITS } from "../limits.js";
import { folderOf, tokenizerJson } from "./testing-tokenizer.js";
import { loadTokenizer, type Tokenizer } from "./tokenizer.js";

type Json = Record<string, unknown>;
type Changed = Json & { model: Json & { vocab: Json; merges: unknown[] }; added_tokens: Json[] };

function changed(change: (json: Changed) => void): Json {
  const json = structuredClone(tokenizerJson()) as Changed;
  change(json);
  return json;
}

const entry = (id: unknown): Json => changed(({ model }) => (model.vocab.zz = id));
const added = (token: object): Json => changed(({ added_tokens: tokens }) => Object.assign(tokens[1], token));
const split = (Regex: string): Json => ({ type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false });

const REFUSED: Record<string, [Json, RegExp][]> = {
  "ids that are no rows of an embedding": [
    [entry(2 ** 31), /the id of "zz" is 2147483648 \(expected a whole number up to 16777215\)/],
    [entry(2 ** 53), /the id of "zz" is 9007199254740992/],
    [entry(-1), /the id of "zz" is -1/],
    [entry(1.5), /the id of "zz" is 1\.5/],
    [entry("7"), /the id of "zz" is "7"/],
    [added({ id: LIMITS.id + 1 }), /added_tokens\[1\]\.id is 16777216/],
  ],
  "added tokens that are none": [
    [added({ content: "" }), /added_tokens\[1\]\.content is ""/],
    [added({ content: { a: 1 } }), /added_tokens\[1\]\.content is an object/],
    [added({ content: "x".repeat(LIMITS.added + 1) }), /added_tokens have more than 1048576 letters/],
    [changed((json) => (json.added_tokens[0] = null as never)), /added_tokens\[0\]\.id is missing/],
  ],
  "merges that lie": [
    [
      changed(({ model }) => model.merges.push("q z")),
      /merges\[8\] is "q z", of which a side or the whole is not in vocab/,
    ],
    [changed(({ model }) => model.merges.push(5)), /merges\[8\] is 5 \(expected two tokens\)/],
    [changed(({ model }) => (model.merges = {} as never)), /merges is an object \(expected a list\)/],
  ],
  "parts that grow without end": [
    [
      changed((json) => (json.pre_tokenizer = { type: "FixedLength", length: 0 })),
      /length is 0 \(expected a whole number from 1\)/,
    ],
    [changed((json) => (json.normalizer = { type: "Prepend", prepend: "x".repeat(257) })), /prepend has 257 letters/],
    [changed((json) => (json.model = null as never)), /this is no tokenizer that can be read: model is missing/],
  ],
};

for (const [kind, cases] of Object.entries(REFUSED)) {
  for (const [json, message] of cases) {
    test(`${kind}: ${message.source}`, (t) => {
      assert.throws(() => loadTokenizer(folderOf(t, { "tokenizer.json": json })), { name: "UserError", message });
    });
  }
}

const slow: [string, Json, string][] = [
  ["a pre-tokenizer", { pre_tokenizer: split("(a+)+$") }, `${"a".repeat(50)}b`],
  [
    "a pre-tokenizer of several",
    { pre_tokenizer: { type: "Sequence", pretokenizers: [split("(\\w|a)*!")] } },
    "a".repeat(60),
  ],
  [
    "a normalizer",
    { normalizer: { type: "Replace", pattern: { Regex: "^(a|aa)+$" }, content: "" } },
    `${"a".repeat(80)}b`,
  ],
];
for (const [name, part, text] of slow) {
  test(`a pattern of ${name} that tries every way is stopped and named`, (t) => {
    // Such a pattern is not done in any time.
    const times = TIME_LIMITS as { row: number };
    const { row } = times;
    times.row = 0.2;
    t.after(() => (times.row = row));
    const tokenizer = loadTokenizer(folderOf(t, { "tokenizer.json": { ...tokenizerJson(), ...part } }));
    const message =
      /tokenizer\.json: encoding a text takes more than \d+ s .* patterns may try too many ways: ".*[+*].*"/;
    assert.throws(() => tokenizer.encode(text), { name: "UserError", message });
  });
}

test("what fails at a text is a sentence: texts made long, parts that are missing, words without end", (t) => {
  const load = (json: Json): Tokenizer => loadTokenizer(folderOf(t, { "tokenizer.json": json }));
  const grows = { type: "Replace", pattern: { String: "a" }, content: "a".repeat(200) };
  const normalizer = { type: "Sequence", normalizers: [grows, grows] };
  assert.throws(() => load(changed((json) => (json.normalizer = normalizer))).encode("abc"), {
    name: "UserError",
    message: /the normalizer makes 40000 letters of 1 \(expected at most 32 times as many\)/,
  });
  assert.throws(() => load(changed((json) => (json.post_processor = { type: "TemplateProcessing" }))), {
    name: "UserError",
    message: /the tokenizer fails on a text of 1 letters, "a"/,
  });
  assert.throws(() => load(tokenizerJson()).encode("a".repeat(LIMITS.word + 1)), {
    name: "UserError",
    message: /a text has 2097153 letters that the tokenizer does not split/,
  });
});

test("signs of patterns in added tokens are letters", (t) => {
  const tokenizer = loadTokenizer(folderOf(t, { "tokenizer.json": added({ content: "(a+)+$[." }) }));
  assert.deepEqual(tokenizer.encode("(a+)+$[."), [265]);
});

/** As SentencePiece's tokenizers have it: no pre-tokenizer, a sign for each space. */
const unsplit = (vocab: string[], merges: string[]): Json => ({
  normalizer: { type: "Replace", pattern: { String: " " }, content: "\u2581" },
  pre_tokenizer: null,
  model: {
    type: "BPE",
    unk_token: "<unk>",
    fuse_unk: true,
    vocab: Object.fromEntries(vocab.map((token, id) => [token, id])),
    merges,
  },
});

test("a long text without a pre-tokenizer is cut between words, and its tokens are those of the words", (t) => {
  const json = unsplit(
    ["<unk>", "\u2581", "a", "b", "\u2581a", "\u2581\u2581", "ab"],
    ["\u2581 a", "\u2581 \u2581", "a b"],
  );
  const tokenizer = loadTokenizer(folderOf(t, { "tokenizer.json": json }));
  const line = "ab a  ab   ?b ";
  const once = tokenizer.encode(line.repeat(2)).slice(0, -1);
  const often = tokenizer.encode(line.repeat(100_000));
  // Each line ends with a blank that joins the next line's first letter, but for the last.
  const period = tokenizer.encode(line.repeat(3)).length - tokenizer.encode(line.repeat(2)).length;
  assert.deepEqual(often.slice(0, once.length), once);
  assert.equal(often.length, tokenizer.encode(line).length + 99_999 * period);
});

test("where tokens reach across words the text is not cut", (t) => {
  const json = unsplit(["<unk>", "\u2581", "a", "a\u2581", "a\u2581a"], ["a \u2581", "a\u2581 a"]);
  const tokenizer = loadTokenizer(folderOf(t, { "tokenizer.json": json }));
  const ids = tokenizer.encode("a a ".repeat(2000));
  assert.deepEqual(
    ids,
    tokenizer.encode("a a ").concat(...Array.from({ length: 1999 }, () => tokenizer.encode("a a "))),
  );
});

test("ten million letters in one text", (t) => {
  const tokenizer = loadTokenizer(folderOf(t, { "tokenizer.json": tokenizerJson() }));
  const count = 1_000_000;
  assert.equal(tokenizer.encode("hello word".repeat(count)).length > count, true);
});
