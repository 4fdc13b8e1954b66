import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { folderOf, SPECIAL, testTokenizer, tokenizerJson } from "./testing-tokenizer.js";
import { loadTokenizer } from "./tokenizer.js";

const bytes = (text: string): number[] => [...Buffer.from(text)];
/** The spelling of the test vocabulary: byte b has id b. */
const HELLO = 259;
const SPACE_W = 260;
const OR = 261;

test("encodes by bytes, merges and special tokens, and adds none", (t) => {
  const tokenizer = testTokenizer(t);
  assert.deepEqual(tokenizer.encode("hello world"), [HELLO, SPACE_W, OR, ...bytes("ld")]);
  assert.deepEqual(tokenizer.encode("<|im_start|>hello<|im_end|>"), [SPECIAL.imStart, HELLO, SPECIAL.imEnd]);
  assert.deepEqual(tokenizer.encode(""), []);
  assert.deepEqual(tokenizer.encode("\u00fc\u{1F600}"), bytes("\u00fc\u{1F600}"));
});

test("decodes what it encoded, without special tokens and ids beyond the vocabulary", (t) => {
  const tokenizer = testTokenizer(t);
  for (const text of [
    "hello world",
    "Gr\u00fc\u00dfe, \u{1F468}\u200d\u{1F469}\u200d\u{1F467} e\u0301",
    "  two\n\n lines .\t",
    "isn 't , .",
  ]) {
    assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  }
  assert.equal(tokenizer.decode(Int32Array.of(SPECIAL.imStart, HELLO, SPECIAL.imEnd, 5000)), "hello");
  assert.equal(tokenizer.decode([]), "");
  assert.equal(tokenizer.decode([SPECIAL.imEnd]), "");
});

test("ids, names and sizes come from the two files", (t) => {
  const tokenizer = testTokenizer(t, {
    bos_token: { content: "<|endoftext|>" },
    add_bos_token: true,
    chat_template: "T",
  });
  assert.deepEqual([tokenizer.vocabSize, tokenizer.eosId, tokenizer.bosId, tokenizer.addBos], [267, 266, 264, true]);
  assert.equal(tokenizer.chatTemplate, "T");
  assert.deepEqual(tokenizer.specialTokens, {
    bos_token: "<|endoftext|>",
    eos_token: "<|im_end|>",
    pad_token: "<|endoftext|>",
  });
  const plain = testTokenizer(t);
  assert.deepEqual([plain.bosId, plain.addBos, plain.chatTemplate], [undefined, false, undefined]);
});

test("a post-processor that puts the first token in front counts as adding it", (t) => {
  const json = tokenizerJson();
  json.post_processor = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<|endoftext|>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
    special_tokens: { "<|endoftext|>": { id: "<|endoftext|>", ids: [264], tokens: ["<|endoftext|>"] } },
  };
  const config = { bos_token: "<|endoftext|>" };
  const tokenizer = loadTokenizer(folderOf(t, { "tokenizer.json": json, "tokenizer_config.json": config }));
  assert.equal(tokenizer.addBos, true);
  assert.deepEqual(tokenizer.encode("hello"), [HELLO]);
  const off = loadTokenizer(
    folderOf(t, { "tokenizer.json": json, "tokenizer_config.json": { ...config, add_bos_token: false } }),
  );
  assert.equal(off.addBos, false);
});

test("the chat template: its file first, then a text, then the one named default", (t) => {
  const load = (files: Record<string, unknown>): string | undefined =>
    loadTokenizer(folderOf(t, { "tokenizer.json": tokenizerJson(), ...files })).chatTemplate;
  assert.equal(load({ "chat_template.jinja": "file", "tokenizer_config.json": { chat_template: "text" } }), "file");
  assert.equal(
    load({
      "tokenizer_config.json": {
        chat_template: [
          { name: "rag", template: "r" },
          { name: "default", template: "d" },
        ],
      },
    }),
    "d",
  );
  assert.equal(load({ "tokenizer_config.json": { chat_template: [{ name: "rag", template: "r" }] } }), "r");
  assert.equal(load({ "tokenizer_config.json": { chat_template: null } }), undefined);
  assert.equal(load({}), undefined);
  assert.throws(() => load({ "tokenizer_config.json": { chat_template: 5 } }), {
    name: "UserError",
    message: /chat_template is the number 5 \(expected a text, or a list/,
  });
});

test("templates by name: files first, then the list; one of the folder goes before one of the same name", (t) => {
  const load = (files: Record<string, unknown>, named: Record<string, string> = {}) => {
    const folder = folderOf(t, { "tokenizer.json": tokenizerJson(), ...files });
    mkdirSync(join(folder, "additional_chat_templates"));
    for (const [name, text] of Object.entries(named))
      writeFileSync(join(folder, "additional_chat_templates", name), text);
    const { chatTemplate, chatTemplates } = loadTokenizer(folder);
    return [chatTemplate, chatTemplates];
  };
  const list = [
    { name: "tool_use", template: "t" },
    { name: "default", template: "d" },
  ];
  assert.deepEqual(load({ "tokenizer_config.json": { chat_template: list } }), ["d", { default: "d", tool_use: "t" }]);
  assert.deepEqual(load({ "chat_template.jinja": "file", "tokenizer_config.json": { chat_template: list } }), [
    "file",
    { default: "file" },
  ]);
  assert.deepEqual(load({ "chat_template.jinja": "file" }, { "tool_use.jinja": "T", "note.txt": "", ".jinja": "" }), [
    "file",
    { default: "file", tool_use: "T" },
  ]);
  assert.deepEqual(load({ "tokenizer_config.json": { chat_template: "text" } }, { "rag.jinja": "R" }), [
    "text",
    { default: "text", rag: "R" },
  ]);
  assert.deepEqual(load({}, { "__proto__.jinja": "P" }), ["P", Object.fromEntries([["__proto__", "P"]])]);
  assert.deepEqual(load({}), [undefined, {}]);
  assert.throws(() => load({ "tokenizer_config.json": { chat_template: [{ name: "rag" }] } }), {
    name: "UserError",
    message: /chat_template is an array of 1 /,
  });
});

test("special_tokens_map.json names tokens, as in transformers: before a config that does not say what tokens there are", (t) => {
  const load = (config: object | undefined, map: unknown) =>
    loadTokenizer(
      folderOf(t, {
        "tokenizer.json": tokenizerJson(),
        ...(config && { "tokenizer_config.json": config }),
        "special_tokens_map.json": map,
      }),
    );
  const end = { eos_token: "<|im_end|>" };
  const text = { eos_token: { content: "<|endoftext|>", lstrip: false, normalized: false } };
  assert.equal(load(undefined, end).eosId, SPECIAL.imEnd);
  assert.equal(load(end, text).eosId, SPECIAL.endoftext);
  assert.equal(load({ ...end, added_tokens_decoder: {} }, text).eosId, SPECIAL.imEnd);
  assert.equal(load(end, { eos_token: null }).eosId, undefined);
  const both = load({ ...end, add_bos_token: true }, { bos_token: "<|endoftext|>", additional_special_tokens: ["x"] });
  assert.deepEqual([both.bosId, both.eosId, both.addBos], [SPECIAL.endoftext, SPECIAL.imEnd, true]);
  assert.deepEqual(both.specialTokens, { eos_token: "<|im_end|>", bos_token: "<|endoftext|>" });
  for (const [map, message] of [
    ["{", /special_tokens_map\.json: not valid JSON/],
    [{ eos_token: "</s>" }, /special_tokens_map\.json: eos_token is "<\/s>", which is not in the vocabulary/],
    ["[]", /special_tokens_map\.json: the file holds \[\] \(expected an object\)/],
  ] as const) {
    assert.throws(() => load(end, map), { name: "UserError", message });
  }
});

/** In the manner of Llama 2: a space sign is put before a text, also behind a special token, and bytes stand in for unknown letters. */
function spacingJson(): Record<string, unknown> {
  const pieces = [
    "<unk>",
    "<s>",
    "</s>",
    "\u2581",
    "a",
    "b",
    "\u2581a",
    "]",
    "\u2581\u2581",
    "ab",
    "\u2581ab",
    ".",
    "<0x0A>",
  ];
  const special = (content: string, id: number): object => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  return {
    added_tokens: [special("<unk>", 0), special("<s>", 1), special("</s>", 2)],
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "\u2581" },
        { type: "Replace", pattern: { String: " " }, content: "\u2581" },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "\u2581" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
      merges: ["a b", "\u2581 ab", "\u2581 a", "\u2581 \u2581"],
    },
  };
}

test("a continuation gets no space before it, unless it is behind a special token that the tokenizer treats so", (t) => {
  const tokenizer = loadTokenizer(
    folderOf(t, { "tokenizer.json": spacingJson(), "tokenizer_config.json": { eos_token: "</s>" } }),
  );
  const ids = (...pieces: string[]): number[] =>
    pieces.map((piece) => Object.keys((spacingJson().model as { vocab: object }).vocab).indexOf(piece));
  assert.deepEqual(tokenizer.encode("ab]"), ids("\u2581ab", "]"));
  assert.deepEqual(tokenizer.encode("ab", "b]"), ids("ab"));
  assert.deepEqual(tokenizer.encode(" ab</s>", "b]"), ids("\u2581ab", "</s>"));
  assert.deepEqual(tokenizer.encode("ab", "b</s>"), ids("\u2581ab"));
  const whole = "<s>a]</s>ab] ab</s>";
  for (const cut of [3, 5, 9, 12]) {
    assert.deepEqual(
      [...tokenizer.encode(whole.slice(0, cut)), ...tokenizer.encode(whole.slice(cut), whole.slice(0, cut))],
      tokenizer.encode(whole),
      `cut at ${cut}`,
    );
  }
  assert.equal(tokenizer.decode(tokenizer.encode("ab ab")), "ab ab");
});

test("a special token that swallows the blanks behind it does so across a cut", (t) => {
  const json = tokenizerJson();
  (json.added_tokens as { rstrip: boolean }[])[2].rstrip = true;
  const tokenizer = loadTokenizer(folderOf(t, { "tokenizer.json": json }));
  assert.deepEqual(tokenizer.encode("\n\nhello", "x<|im_end|>"), [HELLO]);
  assert.deepEqual(tokenizer.encode("\nhello", "x<|im_start|>"), [...bytes("\n").map(() => 10), HELLO]);
});

test("refused: no tokenizer.json, damaged files, unknown special tokens, letters without a token", (t) => {
  const refuses = (files: Record<string, unknown>, message: RegExp): void =>
    assert.throws(() => loadTokenizer(folderOf(t, files)), { name: "UserError", message });
  refuses({}, /: there is no tokenizer\.json\. Copy it from/);
  refuses({ "tokenizer.json": '{"model": ' }, /tokenizer\.json: not valid JSON: .* damaged or cut short/);
  refuses({ "tokenizer.json": "[1]" }, /tokenizer\.json: the file holds \[1\] \(expected an object\)/);
  refuses({ "tokenizer.json": { version: "1.0" } }, /tokenizer\.json: this is no tokenizer that can be read/);
  refuses(
    { "tokenizer.json": tokenizerJson(), "tokenizer_config.json": "{" },
    /tokenizer_config\.json: not valid JSON/,
  );
  refuses(
    { "tokenizer.json": tokenizerJson(), "tokenizer_config.json": { eos_token: "</s>" } },
    /eos_token is "<\/s>", which is not in the vocabulary/,
  );
  // As text: the deep one is deeper than JSON is written.
  for (const part of ["[".repeat(20_000) + "]".repeat(20_000), "null", '{"toString":1}', "5"]) {
    for (const merges of [`[["a","b"],["h",${part}]]`, `[[${part},"h"]]`, `[["h",${part}]]`]) {
      const { model, ...rest } = tokenizerJson() as { model: object };
      const text = JSON.stringify({ ...rest, model: { ...model, merges: "HERE" } }).replace('"HERE"', merges);
      refuses({ "tokenizer.json": text }, /merges\[\d\] is a list of 2/);
    }
  }
  const json = {
    ...tokenizerJson(),
    model: { type: "WordPiece", vocab: { a: 0 }, continuing_subword_prefix: "##", max_input_chars_per_word: 100 },
  };
  const poor = loadTokenizer(folderOf(t, { "tokenizer.json": json }));
  assert.throws(() => poor.encode("abc"), { name: "UserError", message: /no token for a part of the text "abc"/ });
});
