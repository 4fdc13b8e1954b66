import assert from "node:assert/strict";
import { test } from "node:test";

import { UserError } from "../errors.js";
import { pickToken, type Sampling } from "./sample.js";

const DRAWS = 20_000;
const LOGITS = [1.5, -0.5, 2, 0.25, 1.5, -3, 0.75, -40];

const sampling = (changes: Partial<Sampling>): Sampling => ({ temperature: 1, topK: 0, topP: 1, seed: 1, ...changes });

/** How often each id is drawn at positions 0, 1, 2 and so on. */
function shares(logits: ArrayLike<number>, changes: Partial<Sampling>, draws = DRAWS): number[] {
  const counts = new Array<number>(logits.length).fill(0);
  for (let position = 0; position < draws; position++) counts[pickToken(logits, sampling(changes), position)]++;
  return counts.map((count) => count / draws);
}

function softmax(logits: number[], temperature: number, kept: (id: number) => boolean = () => true): number[] {
  const weights = logits.map((logit, id) => (kept(id) ? Math.exp(logit / temperature) : 0));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

/** Within five standard deviations of the draw's own scatter; a token of no probability is never drawn. */
function assertNear(found: number[], expected: number[]): void {
  for (const [id, p] of expected.entries()) {
    const allowed = 5 * Math.sqrt((p * (1 - p)) / DRAWS);
    assert.ok(Math.abs(found[id] - p) <= allowed, `token ${id}: drawn ${found[id]}, probability ${p}`);
  }
}

test("temperature 0, top_k 1 and a tiny top_p take the likeliest; of equals the lowest id", () => {
  for (const changes of [{ temperature: 0 }, { topK: 1 }, { topP: 1e-9 }, { topK: 5, topP: 1e-9 }]) {
    for (let position = 0; position < 50; position++) {
      assert.equal(pickToken(LOGITS, sampling(changes), position), 2);
      assert.equal(pickToken(Float32Array.of(-1, 4, 0, 4), sampling(changes), position), 1);
    }
  }
  assert.deepEqual(shares(LOGITS, { temperature: 1e-6 }, 50), [0, 0, 1, 0, 0, 0, 0, 0]);
});

test("draws follow the softmax at any temperature", () => {
  for (const temperature of [0.5, 1, 2]) assertNear(shares(LOGITS, { temperature }), softmax(LOGITS, temperature));
});

test("top_k draws from the k likeliest, renormalised; more than there are means all", () => {
  assertNear(
    shares(LOGITS, { topK: 3 }),
    softmax(LOGITS, 1, (id) => [2, 0, 4].includes(id)),
  );
  // Tokens 0 and 4 are equal: the lower id is the second likeliest.
  assertNear(
    shares(LOGITS, { topK: 2 }),
    softmax(LOGITS, 1, (id) => [2, 0].includes(id)),
  );
  assertNear(shares(LOGITS, { topK: 50 }), softmax(LOGITS, 1));
});

test("top_p draws from the fewest that reach it, counted within top_k", () => {
  const logits = [0.4, 0.3, 0.2, 0.1].map(Math.log);
  const firsts = (count: number): number[] => softmax(logits, 1, (id) => id < count);
  assertNear(shares(logits, { topP: 0.39 }), firsts(1));
  assertNear(shares(logits, { topP: 0.41 }), firsts(2));
  assertNear(shares(logits, { topP: 0.69 }), firsts(2));
  assertNear(shares(logits, { topP: 0.89 }), firsts(3));
  assertNear(shares(logits, { topP: 0.999 }), firsts(4));
  // Of the first two, 0.4 / 0.7 is 0.57.
  assertNear(shares(logits, { topK: 2, topP: 0.5 }), firsts(1));
  assertNear(shares(logits, { topK: 2, topP: 0.6 }), firsts(2));
});

test("in a large vocabulary the cuts keep exactly what a full sort keeps", () => {
  const logits = Float32Array.from({ length: 30_000 }, (_, i) => 3 * Math.sin(i * 12.9898) + Math.cos(i * 78.233));
  const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
  const weights = order.map((id) => Math.exp(logits[id]));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let count = 0;
  for (let reached = 0; reached < 0.01 * total; count++) reached += weights[count];
  const drawn = (changes: Partial<Sampling>): Set<number> =>
    new Set(Array.from({ length: 400 }, (_, position) => pickToken(logits, sampling(changes), position)));
  const nucleus = new Set(order.slice(0, count));
  for (const id of drawn({ topP: 0.01 })) assert.ok(nucleus.has(id), `${id}`);
  assert.deepEqual([...drawn({ topK: 20 })].sort(), order.slice(0, 20).sort());
});

test("a draw repeats with its seed and position, and changes with either", () => {
  const flat = new Float32Array(1000);
  const drawn = (seed: number): number[] =>
    Array.from({ length: 200 }, (_, position) => pickToken(flat, sampling({ seed }), position));
  assert.deepEqual(drawn(7), drawn(7));
  // 200 draws from 1000 tokens: about 181 different ones, and two seeds agree about 0.2 times.
  assert.ok(new Set(drawn(7)).size > 160);
  const other = drawn(8);
  assert.ok(drawn(7).filter((id, i) => id === other[i]).length < 5);
});

test("broken logits are refused, minus infinity is a token that is never taken", () => {
  for (const [logits, found] of [
    [[0, Number.NaN, 1], "token 1 is NaN"],
    [[0, Number.POSITIVE_INFINITY], "token 1 is Infinity"],
    [[-Infinity, -Infinity], "token 0 is -Infinity"],
  ] as const) {
    for (const temperature of [0, 1]) {
      assert.throws(
        () => pickToken(logits, sampling({ temperature }), 0),
        (failure: Error) => failure instanceof UserError && failure.message.includes(found),
      );
    }
  }
  assertNear(shares([0, -Infinity, 0], {}), [0.5, 0, 0.5]);
});
