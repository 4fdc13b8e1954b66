// What generation stands on: reading piece by piece with a cache gives the logits of one pass over the whole sequence,
// for every coupling.
import assert from "node:assert/strict";
import { test } from "node:test";

import { freeModel } from "../model/model.js";
import { additive } from "../reversible/couplings/additive.js";
import { momentum } from "../reversible/couplings/momentum.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import { floatStreams } from "../reversible/streams.js";
import { setThreads } from "../torch/device.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { type Network, outerNames } from "../network/network.js";
import type { NetworkDescription } from "../network/description.js";
import { Decoder, type DecoderOptions } from "./decoder.js";
import { generateTokens } from "./generate.js";
import { describedNetwork, fullLogits, tinyNetwork } from "./testing-network.js";

setThreads(1);

const TOKENS = Array.from({ length: 30 }, (_, i) => (i * i * 31 + 17 * i + 3) % 97);

/** Logits behind the last token of each piece. */
function pieceLogits(network: Network, pieces: number[], options?: DecoderOptions): Float32Array[] {
  const decoder = new Decoder(network, options);
  let start = 0;
  const logits = pieces.map((length) => decoder.advance(Int32Array.from(TOKENS.slice(start, (start += length)))));
  decoder.close();
  return logits;
}

function assertClose(found: Float32Array, expected: number[], tolerance: number): void {
  assert.equal(found.length, expected.length);
  for (const [id, value] of found.entries()) {
    const near = Math.abs(value - expected[id]) <= tolerance;
    assert.ok(near, `token ${id}: ${value} with the cache, ${expected[id]} without`);
  }
}

const float = floatStreams("float32");
const GRID = { stream: "int32", streamFractionBits: 16 } as const;
const FLOAT = { stream: "float32" } as const;
for (const description of [
  { coupling: "ordinary", ...FLOAT },
  { coupling: "additive", ...FLOAT },
  { coupling: "momentum", gamma: 0.25, ...FLOAT },
  { coupling: "momentum", gamma: -1, ...FLOAT },
  { coupling: "momentum", gamma: -0.125, stream: "int64", streamFractionBits: 32 },
  { coupling: "additive", ...GRID },
  { coupling: "momentum", gamma: 0.25, ...GRID },
  { coupling: "momentum", gamma: -1, ...GRID },
  { coupling: "momentum", gamma: 0.5, ...GRID, blocksPerStep: 2 },
  { coupling: "momentum", gamma: -0.25, ...GRID, blocksPerStep: 2, ordinaryFirst: 1, ordinaryLast: 1 },
  { coupling: "additive", ...GRID, ordinaryFirst: 2 },
  { coupling: "revffn", adapters: "layer", ...GRID },
  { coupling: "revffn", adapters: "stream", ...FLOAT },
  { coupling: "revffn", adapters: "stream", ...GRID, ordinaryFirst: 1, ordinaryLast: 2 },
  { coupling: "bdia", gamma: 0.25, ...GRID },
] as NetworkDescription[]) {
  test(`${JSON.stringify(description)}: logits with the cache are those of the whole sequence`, () => {
    const network = describedNetwork(description);
    // Rounding to the grid may turn a difference of the last float bit into a whole unit of 2^-16.
    const tolerance = description.stream === "int32" ? 1e-3 : 1e-4;
    const before = ledger(TEST_DEVICE);
    const expected = fullLogits(network, TOKENS);
    assert.ok(Math.max(...expected[29]) - Math.min(...expected[29]) > 1, "the logits differ enough to compare");
    for (const [pieces, options] of [
      [[11, ...new Array<number>(19).fill(1)], {}],
      [[1, 4, 20, 5], { holdsBlocks: false }],
      [[25, 1, 4], { tileTokens: 8 }],
      [[16, 14], { tileTokens: 8, holdsBlocks: false }],
    ] as const) {
      let end = 0;
      for (const [i, logits] of pieceLogits(network, [...pieces], options).entries()) {
        end += pieces[i];
        assertClose(logits, expected[end - 1], tolerance);
      }
    }
    assert.deepEqual([ledger(TEST_DEVICE).tensors, ledger(TEST_DEVICE).liveBytes], [before.tensors, before.liveBytes]);
    freeModel(network.model);
  });
}

const longrope = {
  rope_type: "longrope",
  short_factor: [1, 1, 1, 1],
  long_factor: [1, 2, 3, 4],
  original_max_position_embeddings: 20,
};
for (const [model_type, changes] of [
  ["qwen3_moe", { head_dim: 12, attention_bias: true }],
  ["qwen3_moe", { use_sliding_window: true, sliding_window: 6, norm_topk_prob: true }],
  ["mixtral", { sliding_window: 7, rope_scaling: { rope_type: "linear", factor: 2 } }],
  ["mixtral", { sliding_window: 1 }],
  ["olmoe", { clip_qkv: 0.5 }],
] as const) {
  test(`${model_type} ${JSON.stringify(changes)}: logits with the cache are those of the whole sequence`, () => {
    const network = tinyNetwork(ordinary, float, { model_type, ...changes });
    const expected = fullLogits(network, TOKENS);
    for (const [pieces, tileTokens] of [
      [[11, ...new Array<number>(19).fill(1)], undefined],
      [[25, 1, 4], 8],
    ] as const) {
      let end = 0;
      for (const [i, logits] of pieceLogits(network, [...pieces], { tileTokens }).entries()) {
        end += pieces[i];
        assertClose(logits, expected[end - 1], 1e-4);
      }
    }
    freeModel(network.model);
  });
}

test("frequencies that depend on the length are those of the whole prompt, not of a tile", () => {
  const changes = { rope_scaling: { rope_type: "dynamic", factor: 4 }, max_position_embeddings: 16 };
  for (const each of [changes, { rope_scaling: longrope }]) {
    const network = tinyNetwork(ordinary, float, each);
    const [whole] = pieceLogits(network, [30]);
    assertClose(whole, fullLogits(network, TOKENS)[29], 1e-4);
    assertClose(pieceLogits(network, [30], { tileTokens: 8 })[0], [...whole], 1e-4);
    freeModel(network.model);
  }
});

test("couplings are different networks on the same weights", () => {
  const last = [ordinary, additive, momentum(0.25), momentum(-1)].map((coupling) => {
    const network = tinyNetwork(coupling);
    const [logits] = pieceLogits(network, [30]);
    freeModel(network.model);
    return logits[0].toFixed(3);
  });
  assert.equal(new Set(last).size, 4, last.join(" "));
});

test("a prompt's streams do not pile up over the blocks, nor its tiles", () => {
  const peakOf = (layers: number, tileTokens?: number): number => {
    const network = tinyNetwork(momentum(0.25), float, { num_hidden_layers: layers, mlp_only_layers: [] });
    const decoder = new Decoder(network, { tileTokens });
    const tokens = Int32Array.from({ length: 256 }, (_, i) => i % 97);
    resetPeak(TEST_DEVICE);
    const before = ledger(TEST_DEVICE).liveBytes;
    decoder.advance(tokens);
    const peak = ledger(TEST_DEVICE).peakBytes - before;
    decoder.close();
    freeModel(network.model);
    return peak;
  };
  // Keys and values of a layer: 2 tensors of 256 tokens, 2 heads of 8, float32.
  const cacheBytes = 2 * 256 * 2 * 8 * 4;
  assert.equal(peakOf(12) - peakOf(4), 8 * cacheBytes);
  // Attention is lean in either case; what is smaller is the rest.
  assert.ok(peakOf(1, 32) < 0.8 * peakOf(1), `${peakOf(1, 32)} ${peakOf(1)}`);
});

test("whatever fails, nothing stays alive", () => {
  const network: Network = { ...tinyNetwork(momentum(0.25)), computeDtype: "bfloat16" };
  const { architecture } = network.model;
  const failing = new Error("fails");
  const fail = (): never => {
    throw failing;
  };
  const last = architecture.layers.length - 1;
  const layers = [...architecture.layers];
  layers[last] = { ...layers[last], feedForward: { ...layers[last].feedForward, evaluate: fail } };
  const outer = Object.defineProperty({ ...network.model.outer }, outerNames(network).norm.name, { get: fail });
  const withArchitecture = (changes: object): Network => ({
    ...network,
    model: { ...network.model, architecture: { ...architecture, ...changes } },
  });
  const before = ledger(TEST_DEVICE);
  for (const [words, broken] of [
    ["in a block", withArchitecture({ layers })],
    ["behind the blocks", withArchitecture({ finalNorm: fail })],
    ["as the head opens", { ...network, model: { ...network.model, outer } }],
  ] as const)
    for (const holdsBlocks of [true, false]) {
      assert.throws(() => [...generateTokens(broken, [5, 80, 3], { maxNewTokens: 2, holdsBlocks })], failing);
      const { tensors, liveBytes } = ledger(TEST_DEVICE);
      assert.deepEqual([tensors, liveBytes], [before.tensors, before.liveBytes], `${words}, ${holdsBlocks}`);
    }
  freeModel(network.model);
});
