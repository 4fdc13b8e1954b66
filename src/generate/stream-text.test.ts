import assert from "node:assert/strict";
import { test } from "node:test";

import { SPECIAL, testTokenizer } from "../data/tokenizer/testing-tokenizer.js";
import { streamText } from "./stream-text.js";

const TEXT = "Gr\u00fc\u00dfe, \u4f60\u597d \u{1F468}\u200d\u{1F469}\u200d\u{1F467} e\u0301 hello world\n\n";

test("pieces are whole characters and join to the text", (t) => {
  const tokenizer = testTokenizer(t);
  const pieces = [...streamText(tokenizer.encode(TEXT), tokenizer)];
  assert.equal(pieces.join(""), TEXT);
  for (const piece of pieces) {
    assert.ok(piece !== "" && !piece.includes("\uFFFD"), JSON.stringify(piece));
    assert.equal(Buffer.from(piece).toString(), piece, "no half of a surrogate pair");
  }
  // The tokenizer's letters beyond ASCII are one token per byte: each comes with its last byte.
  const short = ["a", "\u4f60", "\u{1F600}", "b"];
  assert.deepEqual([...streamText(tokenizer.encode(short.join("")), tokenizer)], short);
});

test("each token's text comes as soon as the token does", (t) => {
  const tokenizer = testTokenizer(t);
  const log: string[] = [];
  function* tokens(): Generator<number> {
    for (const id of tokenizer.encode("hello world")) {
      log.push("token");
      yield id;
    }
  }
  for (const piece of streamText(tokens(), tokenizer)) log.push(piece);
  assert.deepEqual(log, ["token", "hello", "token", " w", "token", "or", "token", "l", "token", "d"]);
});

test("bytes that are no text come out at the end, or when waiting is of no use", (t) => {
  const tokenizer = testTokenizer(t);
  assert.deepEqual([...streamText([65, 0xe4, 0xbd], tokenizer)], ["A", "\uFFFD"]);
  const pieces = [...streamText(new Array<number>(70).fill(0x80), tokenizer)];
  assert.deepEqual(
    pieces.map((piece) => piece.length),
    [32, 32, 6],
  );
  assert.deepEqual([...streamText([0x80, 65, 66], tokenizer)], ["\uFFFDA", "B"]);
});

test("special tokens say nothing; a text of them alone has no pieces", (t) => {
  const tokenizer = testTokenizer(t);
  assert.deepEqual([...streamText([SPECIAL.imStart, 65, SPECIAL.imEnd, 66], tokenizer)], ["A", "B"]);
  assert.deepEqual([...streamText(new Array<number>(40).fill(SPECIAL.imEnd), tokenizer)], []);
  assert.deepEqual([...streamText([], tokenizer)], []);
});

/** Words with a leading space, which decoding drops at the beginning of a text, as tokenizers of the Llama kind do. */
const spacing = {
  words: ["\u2581Once", "\u2581upon", "\u2581a", "\u2581time", "s"],
  decode(ids: ArrayLike<number>): string {
    return Array.from(ids, (id) => spacing.words[id])
      .join("")
      .replaceAll("\u2581", " ")
      .replace(/^ /, "");
  },
};

test("a space before a word is kept behind a prompt and between words", () => {
  assert.deepEqual([...streamText([2, 3, 4], spacing, [0, 1])], [" a", " time", "s"]);
  assert.deepEqual([...streamText([2, 3, 4], spacing)], ["a", " time", "s"]);
  assert.equal([...streamText([1, 2, 3], spacing, new Array<number>(30).fill(0))].join(""), " upon a time");
});

test("a tokenizer that spoils a whole run of bytes until it is text: nothing is lost or said twice", () => {
  // As byte fallback does: a run is decoded as a whole, or every byte of it becomes a sign of replacement.
  const decode = (ids: ArrayLike<number>): string => {
    const text = Buffer.from(Array.from(ids)).toString();
    return text.includes("\uFFFD") ? "\uFFFD".repeat(ids.length) : text;
  };
  const text = "\u4f60\u597d\u{1F600}\u00fc";
  assert.deepEqual([...streamText(Buffer.from(text), { decode })], [...text]);
});

test("a consumer that stops early stops the tokens", (t) => {
  let stopped = false;
  function* endless(): Generator<number> {
    try {
      for (;;) yield 65;
    } finally {
      stopped = true;
    }
  }
  for (const piece of streamText(endless(), testTokenizer(t))) if (piece === "A") break;
  assert.ok(stopped);
});
