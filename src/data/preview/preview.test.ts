// What a person sees of rows: the letters of tokens, marks, figures, the page.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { inMemory } from "../documents.js";
import { makeDocuments } from "../make-documents.js";
import { countLength, type LengthFacts, NO_LENGTHS } from "../prepared/length-facts.js";
import { CHATML, SPECIAL, testTokenizer, tokenizerJson } from "../tokenizer/testing-tokenizer.js";
import { rowsPage } from "./html.js";
import { shownRows } from "./shown-rows.js";
import { summarize } from "./summary.js";
import { markedText, specialNames, tokenTexts } from "./token-text.js";
import { rowText, rowTitle } from "./words.js";

const NAMES = specialNames({
  path: "",
  lists: new Map(),
  files: new Map([["tokenizer.json", Buffer.from(JSON.stringify(tokenizerJson()))]]),
});
const settings = {
  format: "auto",
  columns: {},
  max_length: 512,
  assistant_only_loss: true,
  completion_only_loss: true,
} as const;

const talk = (...turns: string[]) => ({
  messages: turns.map((content, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content })),
});

function markedRows(t: TestContext, ...values: Record<string, unknown>[]): string[] {
  const tokenizer = testTokenizer(t, { chat_template: CHATML });
  const rows = values.map((value, i) => ({ value, place: `d.jsonl:${i + 1}` }));
  const { documents } = makeDocuments(rows, tokenizer, settings);
  return documents.map((document) => markedText(tokenTexts(document, tokenizer, NAMES)));
}

test("the letters of all tokens are the text, special ones by name, and marks stand around what is trained", (t) => {
  assert.deepEqual(markedRows(t, talk("hello w\u00f6rld \u{1F600}", "\n\nhe\u00fc \u2028ll", "b", "")), [
    "<|im_start|>user\nhello w\u00f6rld \u{1F600}<|im_end|>\n<|im_start|>assistant\n«\n\nhe\u00fc \u2028ll<|im_end|>»\n" +
      "<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n«<|im_end|>»\n",
  ]);
  assert.deepEqual(markedRows(t, { prompt: "hello", completion: " w\u00f6" }), ["hello« w\u00f6<|im_end|>»"]);
  assert.deepEqual(markedRows(t, { text: "hello hello" }), ["hello« hello<|im_end|>»"]);
});

test("tokens that are no whole letter are shown as such, and those behind them are right", (t) => {
  const tokenizer = testTokenizer(t);
  for (const bytes of [
    [0xc3, 0x61],
    [0xf0, 0x9f, 0x98],
    [0x80, 0x80, 0x80, 0x80, 0x80, 0x62],
    [0x61, 0xe2, SPECIAL.imEnd, 0x62],
  ]) {
    const texts = tokenTexts(
      { tokens: Int32Array.from(bytes), trained: new Uint8Array(bytes.length), place: "" },
      tokenizer,
      NAMES,
    );
    const whole = texts.map(({ text }) => text).join("");
    assert.match(whole, /\uFFFD|<\|im_end\|>/);
    if (bytes.at(-1) === 0x62) assert.ok(whole.endsWith("b"), JSON.stringify(whole));
  }
});

test("rows are numbered, cut, split and shown also where nothing is trained", async (t) => {
  const tokenizer = testTokenizer(t, { chat_template: CHATML });
  const shown = async (
    format: "messages" | "text",
    values: Record<string, unknown>[],
    max_length: number,
    count = 9,
  ) => {
    const rows = values.map((value, i) => ({ value, place: `d.jsonl:${i + 1}` }));
    const batches = (async function* () {
      yield { rows, format };
    })();
    const found = [];
    for await (const row of shownRows(batches, count, {
      tokenizer,
      names: NAMES,
      settings: { ...settings, max_length },
    }))
      found.push(row);
    return found;
  };
  const rows = await shown("messages", [talk("hello", "hello"), talk("b"), talk("hello", "b")], 20, 2);
  assert.deepEqual(rows.map(rowTitle), [
    "row 1 (d.jsonl:1): 20 tokens, 0 trained, 3 more cut off at max_length",
    "row 2 (d.jsonl:2): 9 tokens, 0 trained",
  ]);
  const [text] = await shown("text", [{ text: "b".repeat(50) }], 16);
  assert.equal(rowTitle(text), "row 1 (d.jsonl:1): 51 tokens, 47 trained, split into 4");
  assert.equal(rowText(text, false).replaceAll(/[«»]/g, ""), `${"b".repeat(50)}<|im_end|>`);
  const letters = "b".repeat(1600);
  const [long] = await shown("text", [{ text: letters }], 99);
  const marks = /[«»]/g;
  assert.equal(
    rowText(long, false).replaceAll(marks, ""),
    `${letters.slice(0, 600)}\n[... 801 tokens ...]\n${letters.slice(-199)}<|im_end|>`,
  );
  const [evil] = await shown("text", [{ text: "\u001b[31m<b>&" }], 99);
  assert.equal(rowText(evil, false), "\\x1b«[31m<b>&<|im_end|>»");
  assert.ok(rowText(evil, true).startsWith("\\x1b\u001b[32m[\u001b[0m"));
  const page = rowsPage("<rows>", ["a & b"], [evil]);
  assert.match(page, /<title>&lt;rows&gt;<\/title>.*<pre>a &amp; b<\/pre>.*<span title="60" class="t">&lt;<\/span>/s);
  assert.match(page, /<span title="266" class="t s">&lt;\|im_end\|&gt;<\/span>/);
  assert.ok(!page.includes("<b>"));
});

test("the summary of all rows: lengths, ends, duplicates, packs", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: CHATML });
  const values = [talk("b", "b"), talk("b", "hello"), talk("b", "b"), talk("b", "b", "b", "b")];
  const rows = values.map((value, i) => ({ value, place: `d.jsonl:${i + 1}` }));
  const { documents } = makeDocuments(rows, tokenizer, settings);
  const lengths = documents.map(({ tokens }) => tokens.length);
  const summary = summarize(inMemory(documents), (id) => NAMES.has(id), { max_length: 64, packing: true });
  assert.deepEqual(summary, {
    median: lengths[0],
    most95: lengths[3],
    longest: lengths[3],
    duplicates: 1,
    firstDuplicate: ["d.jsonl:3", "d.jsonl:1"],
    ends: [[SPECIAL.imEnd, 5]],
    packs: { count: 3, filled: lengths.reduce((a, b) => a + b) / 192 },
  });
  // A line break behind an end is none; another special token is.
  const ends = (tokens: number[]): [number, number][] => {
    const documents = inMemory([{ tokens: Int32Array.from(tokens), trained: new Uint8Array(3).fill(1), place: "" }]);
    return summarize(documents, (id) => NAMES.has(id), { max_length: 64, packing: false }).ends;
  };
  assert.deepEqual(ends([97, SPECIAL.imEnd, 10]), [[SPECIAL.imEnd, 1]]);
  assert.deepEqual(ends([97, SPECIAL.imEnd, SPECIAL.imStart]), [[SPECIAL.imStart, 1]]);
  assert.deepEqual(ends([97, 98, 99]), [[99, 1]]);
});

test("what a max_length costs is what cutting at it costs", () => {
  const facts: LengthFacts = structuredClone(NO_LENGTHS);
  const rows = [1, 2, 3, 8, 9, 16, 17, 40].map((length, seed) => ({
    tokens: new Int32Array(length),
    trained: Uint8Array.from({ length }, (_, i) => (i > 0 && (i * 7 + seed) % 5 > 2 ? 1 : 0)),
    place: "",
  }));
  for (const row of rows) countLength(facts, row, true);
  assert.equal(facts.longest, 40);
  const trainedIn = (flags: Uint8Array): number => flags.reduce((sum, flag) => sum + flag, 0);
  for (let k = 0; k < 6; k++) {
    const most = 2 ** k;
    const cut = rows.filter(({ tokens }) => tokens.length > most);
    assert.equal(
      facts.rows.slice(k + 1).reduce((sum, count) => sum + count, 0),
      cut.length,
    );
    assert.equal(
      facts.lost[k] ?? 0,
      cut.reduce((sum, { tokens }) => sum + tokens.length - most, 0),
    );
    assert.equal(
      facts.trainedLost[k] ?? 0,
      cut.reduce((sum, { trained }) => sum + trainedIn(trained.subarray(most)), 0),
    );
    const emptied = cut.filter(({ trained }) => trainedIn(trained) > 0 && trainedIn(trained.subarray(0, most)) === 0);
    assert.equal(facts.emptied[k] ?? 0, emptied.length, `2^${k}`);
  }
});
