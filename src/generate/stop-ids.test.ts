import assert from "node:assert/strict";
import { test } from "node:test";

import { folderFiles } from "../checkpoint/source.js";
import {
  CHATML,
  CHATML_TAGGED,
  CHATML_THINKING,
  folderOf,
  SPECIAL,
  tokenizerJson,
} from "../data/tokenizer/testing-tokenizer.js";
import { loadTokenizer } from "../data/tokenizer/tokenizer.js";
import { findStopIds } from "./stop-ids.js";

const tokenizerFiles = (config: Record<string, unknown>): Record<string, unknown> => ({
  "tokenizer.json": tokenizerJson(),
  "tokenizer_config.json": config,
});

test("every source of end tokens counts, as an id or a list; what is absent does not", (t) => {
  const sources: [Record<string, unknown>, number[]][] = [
    [tokenizerFiles({}), []],
    [tokenizerFiles({ eos_token: "<|im_end|>" }), [SPECIAL.imEnd]],
    [{ ...tokenizerFiles({}), "config.json": { eos_token_id: 3 } }, [3]],
    [{ ...tokenizerFiles({}), "config.json": { eos_token_id: null } }, []],
    [
      {
        ...tokenizerFiles({ eos_token: "<|endoftext|>" }),
        "config.json": { eos_token_id: 0 },
        "generation_config.json": { eos_token_id: [7, 0] },
      },
      [7, 0, SPECIAL.endoftext],
    ],
  ];
  for (const [files, expected] of sources) {
    const folder = folderOf(t, files);
    assert.deepEqual([...findStopIds(folderFiles(folder), loadTokenizer(folder), { chat: false })], expected);
  }
});

test("in a chat, the template's own end of a turn counts", (t) => {
  for (const template of [CHATML, CHATML_TAGGED, CHATML_THINKING]) {
    const folder = folderOf(t, tokenizerFiles({ eos_token: "<|endoftext|>", chat_template: template }));
    const tokenizer = loadTokenizer(folder);
    assert.deepEqual(
      [...findStopIds(folderFiles(folder), tokenizer, { chat: true })],
      [SPECIAL.endoftext, SPECIAL.imEnd],
    );
    assert.deepEqual([...findStopIds(folderFiles(folder), tokenizer, { chat: false })], [SPECIAL.endoftext]);
  }
});

test("a template that ends turns with ordinary words, or nothing, adds no end token", (t) => {
  for (const ending of ["", "\n", "\n### END\n"]) {
    const template = `{% for message in messages %}{{ message.role }}: {{ message.content }}${ending}{% endfor %}`;
    const folder = folderOf(t, tokenizerFiles({ chat_template: template }));
    assert.deepEqual([...findStopIds(folderFiles(folder), loadTokenizer(folder), { chat: true })], []);
  }
});
