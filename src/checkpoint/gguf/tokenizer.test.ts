// Ids of texts with every way of cutting and with SentencePiece, against the libraries of Hugging Face, see
// test/golden/make_gguf.py; what the two files say; what is refused.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Tokenizer as JsonTokenizer } from "@huggingface/tokenizers";

import { type MetadataValue, readHeader } from "./header.js";
import { golden } from "./testing-gguf.js";
import { tokenizerFiles } from "./tokenizer.js";

type Metadata = Record<string, MetadataValue>;

const { texts, ids } = JSON.parse(readFileSync(golden("tokens.json"), "utf8")) as {
  texts: string[];
  ids: Record<string, number[][]>;
};
const metadataOf = (name: string, changes: Metadata = {}): Metadata => ({
  ...readHeader(golden(name)).metadata,
  ...changes,
});
const open = (metadata: Metadata): JsonTokenizer => {
  const files = tokenizerFiles(metadata, "m.gguf");
  return new JsonTokenizer(files["tokenizer.json"], files["tokenizer_config.json"]);
};

for (const [name, expected] of Object.entries(ids)) {
  test(`${name}: ids and texts are those of the libraries in Python`, () => {
    const tokenizer = open(
      name === "llama" ? metadataOf("spm.gguf") : metadataOf("bpe.gguf", { "tokenizer.ggml.pre": name }),
    );
    for (const [i, text] of texts.entries()) {
      const found = tokenizer.encode(text, { add_special_tokens: false }).ids;
      assert.deepEqual(found, expected[i], JSON.stringify(text));
      // SentencePiece cannot tell its sign for a space from a space, and puts one behind a special token, too.
      if (found.length === 0 || (name === "llama" && /[\u2581<]/.test(text))) continue;
      const composed = name === "qwen2" || name === "olmo" ? text.normalize("NFC") : text;
      assert.equal(tokenizer.decode(found, { skip_special_tokens: false }), composed);
    }
  });
}

test("special tokens, the template and what is put before a text", () => {
  const files = tokenizerFiles(metadataOf("bpe.gguf"), "m.gguf");
  assert.deepEqual(files["tokenizer_config.json"], {
    bos_token: "<|endoftext|>",
    eos_token: "<|im_end|>",
    pad_token: "<|endoftext|>",
    add_bos_token: false,
    add_eos_token: false,
    clean_up_tokenization_spaces: false,
    tokenizer_class: "PreTrainedTokenizerFast",
    chat_template: "{% for message in messages %}{{ message.content }}{% endfor %}",
  });
  const encode = (metadata: Metadata): number[] => open(metadata).encode("<|im_start|>").ids;
  assert.deepEqual(encode(metadataOf("bpe.gguf")), [1]);
  assert.deepEqual(encode(metadataOf("bpe.gguf", { "tokenizer.ggml.pre": "llama-bpe" })), [0, 1]);
  assert.deepEqual(
    encode(metadataOf("bpe.gguf", { "tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.add_bos_token": false })),
    [1],
  );
  assert.deepEqual(
    encode(metadataOf("bpe.gguf", { "tokenizer.ggml.add_bos_token": true, "tokenizer.ggml.add_eos_token": true })),
    [0, 1, 2],
  );
  assert.deepEqual(open(metadataOf("spm.gguf")).encode("").ids, [1]);
});

test("kinds of tokens: user's own are found whole but shown, fillers are left out, and without kinds the named are special", () => {
  const metadata = metadataOf("bpe.gguf");
  const tokens = [...(metadata["tokenizer.ggml.tokens"] as string[]), "<think>", "[PAD]"];
  const kinds = [...(metadata["tokenizer.ggml.token_type"] as number[]), 4, 5];
  const changed = { ...metadata, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds };
  const tokenizer = open(changed);
  const own = tokens.length - 2;
  assert.ok(tokenizer.encode("a<think>b").ids.includes(own));
  assert.equal(tokenizer.decode([1, own], { skip_special_tokens: true }), "<think>");
  assert.equal(tokenizer.token_to_id("[PAD]"), undefined);
  const { "tokenizer.ggml.token_type": _, ...unsaid } = metadata;
  assert.deepEqual(open(unsaid).encode("x<|im_end|>").ids.at(-1), 2);
});

test("a word that is a token as a whole needs no merges where the model was trained so", () => {
  const whole = (pre: string): boolean => {
    const metadata = metadataOf("bpe.gguf", { "tokenizer.ggml.pre": pre, "tokenizer.ggml.merges": [] });
    return open(metadata).encode("on", { add_special_tokens: false }).ids.length === 1;
  };
  assert.deepEqual(["llama-bpe", "tekken", "qwen2", "gpt-2"].map(whole), [true, true, false, false]);
});

test("without a space in front, SentencePiece's text stays as it is", () => {
  const tokenizer = open(metadataOf("spm.gguf", { "tokenizer.ggml.add_space_prefix": false }));
  const spaced = open(metadataOf("spm.gguf"));
  const ids = tokenizer.encode(" the", { add_special_tokens: false }).ids;
  assert.deepEqual(ids, spaced.encode("the", { add_special_tokens: false }).ids);
  assert.equal(tokenizer.decode(ids), " the");
  assert.equal(spaced.decode(ids), "the");
});

test("refused: unknown models and cuts, and lists that are missing or too short", () => {
  const refuses = (metadata: Metadata, message: RegExp): void => {
    assert.throws(() => tokenizerFiles(metadata, "m.gguf"), { name: "UserError", message });
  };
  const bpe = metadataOf("bpe.gguf");
  const without = (key: string): Metadata =>
    Object.fromEntries(Object.entries(bpe).filter(([name]) => name !== `tokenizer.ggml.${key}`));
  refuses(
    { ...bpe, "tokenizer.ggml.model": "t5" },
    /^m\.gguf: "tokenizer\.ggml\.model" is "t5" \(expected gpt2 or llama\)\.$/,
  );
  refuses(
    { ...bpe, "tokenizer.ggml.pre": "poro-chat" },
    /^m\.gguf: "tokenizer\.ggml\.pre" is "poro-chat" \(expected gpt-2, .*\)\. Another way/,
  );
  refuses(without("pre"), /"tokenizer\.ggml\.pre" is missing/);
  refuses(without("tokens"), /"tokenizer\.ggml\.tokens" is missing, so the file has no tokenizer/);
  refuses(without("merges"), /"tokenizer\.ggml\.merges" is missing/);
  refuses(
    { ...bpe, "tokenizer.ggml.token_type": [1, 2] },
    /"tokenizer\.ggml\.token_type" has 2 elements \(expected a list of \d+, as many as tokens\)/,
  );
  refuses(
    { ...bpe, "tokenizer.ggml.eos_token_id": 9999 },
    /"tokenizer\.ggml\.eos_token_id" is 9999 \(expected one of \d+ tokens\)/,
  );
  const { "tokenizer.ggml.scores": _, ...spm } = metadataOf("spm.gguf");
  refuses(spm, /"tokenizer\.ggml\.scores" is missing/);
});
