import assert from "node:assert/strict";
import { test } from "node:test";

import { UserError } from "../errors.js";
import { freeModel } from "../model/model.js";
import { additive } from "../reversible/couplings/additive.js";
import { momentum } from "../reversible/couplings/momentum.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import { gridStreams } from "../reversible/streams.js";
import { setThreads } from "../torch/device.js";
import { ledger } from "../torch/memory.js";
import { scope } from "../torch/scope.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import type { Network } from "../network/network.js";
import { generateTokens } from "./generate.js";
import { fullLogits, tinyNetwork } from "./testing-network.js";

setThreads(1);

const PROMPT = [5, 80, 3, 3, 41];

/** Runs `body` with a network, and asserts that no tensor but the model's is alive afterwards. */
function withNetwork(network: Network, body: (network: Network) => void): void {
  const before = ledger(TEST_DEVICE);
  try {
    body(network);
    assert.deepEqual([ledger(TEST_DEVICE).tensors, ledger(TEST_DEVICE).liveBytes], [before.tensors, before.liveBytes]);
  } finally {
    freeModel(network.model);
  }
}

/** Greedy tokens by a pass over the whole sequence for each. */
function greedy(network: Network, count: number): number[] {
  const tokens = [...PROMPT];
  for (let i = 0; i < count; i++) {
    const logits = fullLogits(network, tokens)[tokens.length - 1];
    tokens.push(logits.indexOf(Math.max(...logits)));
  }
  return tokens.slice(PROMPT.length);
}

for (const coupling of [ordinary, additive, momentum(0.25), momentum(-1)]) {
  test(`${coupling.name}: greedy tokens are those without a cache, and nothing stays alive`, () => {
    withNetwork(tinyNetwork(coupling), (network) => {
      const tokens = [...generateTokens(network, PROMPT, { maxNewTokens: 20 })];
      assert.deepEqual(tokens, greedy(network, 20));
    });
  });
}

test("on the integer grid, too", () => {
  withNetwork(tinyNetwork(momentum(0.25), gridStreams("int32", 16)), (network) => {
    assert.deepEqual([...generateTokens(network, PROMPT, { maxNewTokens: 12 })], greedy(network, 12));
  });
});

test("weights in another dtype than the computing are copied, and the copies freed", () => {
  withNetwork({ ...tinyNetwork(momentum(0.25)), computeDtype: "bfloat16" }, (network) => {
    assert.equal([...generateTokens(network, PROMPT, { maxNewTokens: 5 })].length, 5);
  });
});

test("blocks stay open while tokens come, and a consumer that stops early frees them", () => {
  withNetwork(tinyNetwork(), (network) => {
    const idle = ledger(TEST_DEVICE).tensors;
    const seen: number[] = [];
    for (const token of generateTokens(network, PROMPT, { maxNewTokens: 20 })) {
      assert.ok(ledger(TEST_DEVICE).tensors > idle);
      seen.push(token);
      if (seen.length === 3) break;
    }
    assert.equal(ledger(TEST_DEVICE).tensors, idle);
    assert.throws(() => {
      for (const token of generateTokens(network, PROMPT, { maxNewTokens: 20 })) throw new Error(`consumer ${token}`);
    }, /consumer/);
    assert.equal(ledger(TEST_DEVICE).tensors, idle);
    generateTokens(network, PROMPT, { maxNewTokens: 20 });
    assert.equal(ledger(TEST_DEVICE).tensors, idle, "nothing is opened before the first token is asked for");
  });
});

test("the consumer's scopes do not take the cache away", () => {
  withNetwork(tinyNetwork(), (network) => {
    const tokens = generateTokens(network, PROMPT, { maxNewTokens: 6 });
    const scoped = Array.from({ length: 6 }, () => {
      let token = -1;
      scope(() => {
        token = tokens.next().value ?? -1;
      });
      return token;
    });
    tokens.return();
    assert.deepEqual(scoped, greedy(network, 6));
  });
});

test("a failure of the network frees everything", () => {
  // Two whole bits: the streams leave the grid.
  withNetwork(tinyNetwork(additive, gridStreams("int32", 29)), (network) => {
    assert.throws(() => [...generateTokens(network, PROMPT, { maxNewTokens: 5 })], /leaves the grid/);
  });
});

test("stop tokens end the text and are not part of it", () => {
  withNetwork(tinyNetwork(), (network) => {
    const all = greedy(network, 20);
    const stop = all[6];
    const tokens = [...generateTokens(network, PROMPT, { maxNewTokens: 20, stopIds: [96, stop] })];
    assert.deepEqual(tokens, all.slice(0, all.indexOf(stop)));
  });
});

test("draws repeat with their seed and differ without", () => {
  withNetwork(tinyNetwork(), (network) => {
    const drawn = (seed: number): number[] => [
      ...generateTokens(network, PROMPT, { maxNewTokens: 15, temperature: 1, topP: 0.95, topK: 50, seed }),
    ];
    assert.deepEqual(drawn(1), drawn(1));
    assert.notDeepEqual(drawn(1), drawn(2));
    const likeliest = [...generateTokens(network, PROMPT, { maxNewTokens: 15, temperature: 1, topK: 1 })];
    assert.deepEqual(likeliest, greedy(network, 15));
  });
});

test("every position up to the last can be used, none beyond", () => {
  withNetwork(tinyNetwork(), (network) => {
    const refuses = (length: number, maxNewTokens: number, pattern: RegExp): void =>
      assert.throws(
        () => generateTokens(network, new Array<number>(length).fill(1), { maxNewTokens }),
        (failure: Error) => failure instanceof UserError && pattern.test(failure.message),
      );
    assert.equal([...generateTokens(network, PROMPT, { maxNewTokens: 60 })].length, 60);
    refuses(
      5,
      61,
      /max_new_tokens: 61 behind a prompt of 5 go beyond .*embeddings is 64\)\. Set max_new_tokens to at most 60\.$/,
    );
    refuses(65, 1, /^prompt: its 65 tokens go beyond .*embeddings is 64\)\. Shorten the prompt\.$/);
    assert.equal([...generateTokens(network, new Array<number>(64).fill(1), { maxNewTokens: 1 })].length, 1);
  });
});

test("an empty prompt and foreign tokens are refused at once", () => {
  withNetwork(tinyNetwork(), (network) => {
    assert.throws(() => generateTokens(network, [], { maxNewTokens: 1 }), /prompt: it has no tokens/);
    assert.throws(() => generateTokens(network, [3, 97], { maxNewTokens: 1 }), /token 97 is outside .* of 97/);
  });
});
