// Rotary frequencies against the numbers that Qwen3MoeRotaryEmbedding of transformers 5.23 gives, and every dialect and
// mistake of config.json.
import assert from "node:assert/strict";
import { test } from "node:test";

import { UserError } from "../../errors.js";
import { type Rotary, rotaryFrequencies } from "../../model/rotary.js";
import { ConfigReader } from "../config-reader.js";
import { readRope } from "./rope.js";

const SIZES = { headDim: 8, maxPositions: 128 };
const read = (source: Record<string, unknown>, sizes = SIZES, partial?: number): Rotary =>
  readRope(new ConfigReader(source, "config.json"), { theta: 10_000, partial }, sizes);

const LLAMA3 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 512,
};
const LONGROPE = {
  rope_type: "longrope",
  short_factor: [1, 1.1, 1.2, 1.3],
  long_factor: [2, 3, 4, 5],
  original_max_position_embeddings: 32,
};
const FINE_YARN = {
  rope_type: "yarn",
  factor: 4,
  original_max_position_embeddings: 512,
  beta_fast: 32,
  beta_slow: 0.5,
  truncate: false,
  mscale: 0.7,
  mscale_all_dim: 1.3,
};
const GIVEN_YARN = { rope_type: "yarn", factor: null, original_max_position_embeddings: 32, attention_factor: 1.5 };

for (const [name, theta, parameters, length, expected, scale] of [
  ["default", 1e4, {}, 21, [1, 0.1, 0.01, 0.001], 1],
  ["linear", 1e4, { rope_type: "linear", factor: 4 }, 21, [0.25, 0.025, 0.0025, 0.00025], 1],
  ["dynamic within the length", 1e4, { rope_type: "dynamic", factor: 2 }, 128, [1, 0.1, 0.01, 0.001], 1],
  [
    "dynamic beyond it",
    1e4,
    { rope_type: "dynamic", factor: 2 },
    301,
    [1, 0.064636409, 0.0041778651, 0.00027004222],
    1,
  ],
  [
    "yarn",
    1e6,
    { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32768 },
    21,
    [1, 0.031622779, 0.00062500004, 7.9056936e-6],
    1.138629436111989,
  ],
  ["yarn with every option", 1e4, FINE_YARN, 21, [1.0, 0.075332202, 0.003380809, 0.00025000001], 0.9295234923939468],
  ["yarn with a null factor", 1e4, GIVEN_YARN, 21, [1, 0.025, 0.0025, 0.00025], 1.5],
  ["longrope within the length", 1e4, LONGROPE, 32, [1, 0.090909094, 0.0083333328, 0.00076923077], 1.1832159566199232],
  ["longrope beyond it", 1e4, LONGROPE, 33, [0.5, 0.033333335, 0.0025, 0.0002], 1.1832159566199232],
  ["llama3", 5e5, LLAMA3, 21, [1.0, 0.027344134, 0.00017677668, 6.6478697e-6], 1],
] as const) {
  test(`${name}: the frequencies of transformers, from both dialects`, () => {
    const { rope_type = "default", ...others }: Record<string, unknown> = parameters;
    for (const source of [
      { rope_parameters: { rope_theta: theta, rope_type, ...others } },
      { rope_parameters: { rope_type, ...others }, rope_theta: theta },
      { rope_scaling: { rope_type, ...others }, rope_theta: theta },
      { rope_scaling: { type: rope_type, ...others }, rope_theta: theta, rope_parameters: null },
    ]) {
      const found = rotaryFrequencies(read(source), SIZES.headDim, length);
      for (const [i, value] of expected.entries()) {
        // Theirs are computed in float32, ours in float64 and rounded once.
        assert.ok(
          Math.abs(found.frequencies[i] - value) < 5e-7 * value,
          `frequency ${i}: ${found.frequencies[i]}, not ${value}`,
        );
      }
      assert.ok(Math.abs(found.scale - scale) < 1e-12, `${found.scale}`);
    }
  });
}

test("without a word about rotary positions, the family's base holds; null and empty blocks are no word", () => {
  for (const source of [{}, { rope_scaling: null }, { rope_scaling: {}, rope_parameters: null }]) {
    assert.deepEqual(read(source), { theta: 10_000, scaling: { type: "default" }, width: 8 });
  }
  assert.equal(read({ rope_scaling: {}, rope_parameters: { rope_theta: 5 } }).theta, 5);
});

test("the length before stretching: the file's own key, else the block's, else max_position_embeddings", () => {
  const lengthOf = (source: Record<string, unknown>): unknown => {
    const { scaling } = read(source);
    return "originalPositions" in scaling && scaling.originalPositions;
  };
  assert.equal(lengthOf({ rope_scaling: LLAMA3, original_max_position_embeddings: 16 }), 16);
  assert.equal(lengthOf({ rope_scaling: LLAMA3 }), 512);
  assert.equal(lengthOf({ rope_scaling: { ...LLAMA3, original_max_position_embeddings: undefined } }), 128);
});

test("how many features turn: by the block, else by the file, else by the family", () => {
  const widthOf = (source: Record<string, unknown>, headDim = 12): number =>
    read(source, { ...SIZES, headDim }, 0.5).width;
  assert.equal(widthOf({}), 6);
  assert.equal(widthOf({}, 13), 6);
  assert.equal(widthOf({ partial_rotary_factor: 0.34 }), 4);
  assert.equal(widthOf({ rope_scaling: { partial_rotary_factor: 1 }, partial_rotary_factor: 0.34 }), 12);
  assert.equal(widthOf({ rope_parameters: { rope_theta: 5 }, partial_rotary_factor: 0.17 }), 2);
  const longrope = { ...LONGROPE, partial_rotary_factor: 0.5 };
  assert.equal(widthOf({ rope_parameters: longrope }, 16), 8);
  for (const [partial_rotary_factor, headDim] of [
    [0.6, 12],
    [0.1, 12],
    [1.5, 12],
    [1, 13],
  ]) {
    assert.throws(
      () => widthOf({ partial_rotary_factor }, headDim),
      new RegExp(`"partial_rotary_factor" is ${partial_rotary_factor} \\(expected a share of ${headDim} features`),
    );
  }
});

test("unknown types, missing keys and values that cannot be are refused by name", () => {
  const refuses = (rope_scaling: unknown, pattern: RegExp, others: Record<string, unknown> = {}): void => {
    assert.throws(
      () => read({ rope_scaling, ...others }),
      (failure: Error) => {
        assert.ok(failure instanceof UserError, String(failure));
        assert.match(failure.message, pattern);
        return true;
      },
    );
  };
  refuses(
    { type: "mrope" },
    /^config\.json: rope_scaling: rope type "mrope" is not supported \(expected default, linear, dynamic, yarn, longrope, llama3\)/,
  );
  refuses({ rope_type: "toString" }, /rope type "toString" is not supported/);
  refuses({ rope_type: 3 }, /rope type 3 is not supported/);
  refuses([1], /"rope_scaling" is \[1\] \(expected an object or null\)/);
  refuses(8, /"rope_scaling" is 8 \(expected an object or null\)/);
  for (const rope_type of ["linear", "dynamic", "yarn"])
    refuses({ rope_type }, /config\.json: rope_scaling: "factor" is missing \(expected a number above 0\)/);
  refuses({ rope_type: "linear", factor: 0 }, /"factor" is 0/);
  for (const key of ["factor", "low_freq_factor", "high_freq_factor"])
    refuses({ ...LLAMA3, [key]: undefined }, new RegExp(`"${key}" is missing`));
  refuses({ ...LLAMA3, low_freq_factor: 4 }, /"high_freq_factor" is 4 \(expected more than low_freq_factor, 4\)/);
  for (const key of ["short_factor", "long_factor"]) {
    refuses(
      { ...LONGROPE, [key]: undefined },
      new RegExp(`"${key}" is missing \\(expected a list of 4 numbers above 0\\)`),
    );
    refuses({ ...LONGROPE, [key]: [1, 2, 3] }, new RegExp(`"${key}" is \\[1,2,3\\]`));
  }
  refuses({ rope_type: "default", partial_rotary_factor: 0.5 }, /rope_scaling: "partial_rotary_factor" is 0\.5/);
  refuses(null, /config\.json: "partial_rotary_factor" is 0\.5/, { partial_rotary_factor: 0.5 });
  refuses(null, /"rope_theta" is 0/, { rope_theta: 0 });
  refuses(null, /rope_parameters: "full_attention" is \{.*\} \(expected no block per layer type\)/, {
    rope_parameters: { full_attention: { rope_type: "default" } },
  });
});
