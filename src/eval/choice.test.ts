// Likelihoods of choices against those of a full forward pass for each, in float64 from its logits; and how they are scored.
import assert from "node:assert/strict";
import { test } from "node:test";

import { fullLogits, describedNetwork } from "../generate/testing-network.js";
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";
import { freeModel } from "../model/model.js";
import { setThreads } from "../torch/device.js";
import { ledger } from "../torch/memory.js";
import type { NetworkDescription } from "../network/description.js";
import { choiceLogLikelihoods, type ChoiceItem, makeChoices, scoreChoices } from "./choice.js";
import { PLAIN_TEMPLATE } from "./prompt.js";

setThreads(1);

/** A token for each letter. */
const letters = {
  encode: (text: string) => Array.from(text, (letter) => letter.charCodeAt(0) % 97),
  addBos: true,
  bosId: 96,
} as unknown as Tokenizer;
const FORM = { tokenizer: letters, template: PLAIN_TEMPLATE, chat: false };

const ROWS = [
  { context: "Who?", isQuestion: true, choices: ["Ahab", "the cook", "I"], answer: 0, place: "a:1" },
  { context: "He goes", isQuestion: false, choices: ["home", "to sea"], answer: 1, place: "a:2" },
];

test("sums over a choice's tokens are those of a pass over its whole sequence", () => {
  const { items, cut } = makeChoices(ROWS, FORM, 64);
  assert.equal(cut, 0);
  for (const description of [
    { coupling: "ordinary", stream: "float32" },
    { coupling: "momentum", gamma: -0.5, stream: "int32", streamFractionBits: 16 },
  ] as NetworkDescription[]) {
    const network = describedNetwork(description);
    const before = ledger();
    // Batches of one and of several documents.
    for (const max_length of [8, 60, 500]) {
      const found = choiceLogLikelihoods(network, items, { rows: 1, max_length });
      for (const [i, row] of ROWS.entries()) {
        for (const [j, choice] of row.choices.entries()) {
          const context = row.isQuestion ? `Question: ${row.context}\nAnswer:` : row.context;
          const prompt = [96, ...letters.encode(context)];
          const tokens = [...prompt, ...letters.encode(` ${choice}`)];
          const logits = fullLogits(network, tokens);
          const expected = tokens.slice(prompt.length).reduce((total, token, k) => {
            const row_V = logits[prompt.length - 1 + k];
            const top = Math.max(...row_V);
            return total + row_V[token] - top - Math.log(row_V.reduce((sum, value) => sum + Math.exp(value - top), 0));
          }, 0);
          const near = Math.abs(found[i][j] - expected) < 1e-3;
          assert.ok(near, `${choice}: ${found[i][j]} ${expected}`);
        }
      }
    }
    assert.deepEqual([ledger().tensors, ledger().liveBytes], [before.tensors, before.liveBytes]);
    freeModel(network.model);
  }
});

test("a context beyond the positions loses its beginning, the choice nothing", () => {
  const { items, cut } = makeChoices(ROWS, FORM, 12);
  assert.equal(cut, 5);
  const [{ documents }] = items;
  assert.deepEqual([...documents[1].tokens], letters.encode("wer: the cook").slice(-12));
  assert.equal(
    documents[1].trained.reduce((sum, flag) => sum + flag, 0),
    " the cook".length,
  );
});

test("acc takes the likeliest, acc_norm the likeliest per byte, and errors are those of a share", () => {
  const item = (choices: string[], answer: number): ChoiceItem => ({
    documents: [],
    bytes: choices.map((c) => Buffer.byteLength(c)),
    answer,
  });
  const items = [item(["a", "aaaa"], 1), item(["ü", "o"], 0), item(["a", "b"], 1), item(["a", "b"], 0)];
  // Per byte: -1, -0.5; -1, -1.5; a tie, which goes to the first, twice.
  const score = scoreChoices(items, [
    [-1, -2],
    [-2, -1.5],
    [-1, -1],
    [-1, -1],
  ]);
  assert.deepEqual([score.acc, score.accNorm], [0.25, 0.75]);
  assert.equal(score.accError, Math.sqrt((0.25 * 0.75) / 3));
  assert.equal(scoreChoices(items.slice(0, 1), [[-1, -2]]).accError, null);
});
