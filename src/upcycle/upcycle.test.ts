// Mixtures made from dense models against what transformers computes for the dense ones; what is lost where it is not the
// same; and what comes of bad input.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { openFolder } from "../checkpoint/folder.js";
import { openSafetensors } from "../checkpoint/safetensors/file.js";
import { type TensorSource, writeSafetensors } from "../checkpoint/safetensors/writer.js";
import { openSource } from "../checkpoint/source.js";
import { UserError } from "../errors.js";
import { setThreads } from "../torch/device.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { cast, fill_, select } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { toArray, type Tensor } from "../torch/tensor.js";
import { readDenseModel } from "./dense.js";
import { chooseTarget } from "./target.js";
import { upcycledTensors } from "./tensors.js";
import {
  changedDense,
  denseFolder,
  golden,
  logitsOf,
  OPTIONS,
  relativeError,
  temporaryFolder,
} from "./testing-dense.js";
import { upcycle, type UpcycleOptions, type UpcyclePlan } from "./upcycle.js";

setThreads(1);

// Float32 sums in another order differ near 1e-7.
const EQUAL = 1e-5;

interface Made {
  folder: string;
  plan: UpcyclePlan;
  /** Relative error of the logits against the dense model in transformers. */
  error: number;
}

function make(t: TestContext, name: string, changes: Partial<UpcycleOptions> = {}, from = denseFolder(name)): Made {
  const folder = join(temporaryFolder(t), "moe");
  const before = ledger();
  const plan = upcycle(from, folder, { ...OPTIONS, ...changes });
  assert.deepEqual([ledger().tensors, ledger().mappedBytes], [before.tensors, before.mappedBytes]);
  const { tokens, logits } = golden(name);
  return { folder, plan, error: relativeError(logitsOf(folder, tokens), logits) };
}

const configIn = (folder: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as Record<string, unknown>;

function tensorOf(folder: string, name: string): { dtype: string; shape: number[]; values: number[] } {
  const opened = openFolder(folder);
  const entry = opened.tensors.get(name);
  assert.ok(entry, name);
  const values = scope(() => toArray(opened.read(name)));
  opened.close();
  return { dtype: entry.dtype, shape: entry.shape, values };
}

/** A copy of a golden model with every tensor passed through `change`. */
function rewritten(
  t: TestContext,
  name: string,
  change: (tensor: Tensor, name: string) => Tensor,
  dtype: TensorSource["dtype"],
): string {
  const folder = changedDense(t, name, {});
  const opened = openFolder(denseFolder(name));
  const tensors = [...opened.tensors].map(([each, entry]): TensorSource => {
    return { name: each, dtype, shape: entry.shape, read: () => change(opened.read(each), each) };
  });
  writeSafetensors(join(folder, "model.safetensors"), tensors);
  opened.close();
  return folder;
}

const CASES: [name: string, to: string, changes?: Partial<UpcycleOptions>][] = [
  ["llama", "mixtral"],
  ["smollm", "mixtral"],
  ["mistral", "mixtral"],
  ["qwen2", "qwen2_moe"],
  ["qwen3", "qwen3_moe"],
  ["qwen3-window", "qwen3_moe"],
  ["smollm", "qwen2_moe", { to: "qwen2_moe" }],
  ["llama", "qwen2_moe", { decoderSparseStep: 2 }],
  ["qwen3", "qwen3_moe", { decoderSparseStep: 2, expertsPerToken: 3 }],
  ["qwen2", "qwen2_moe", { decoderSparseStep: 2, expertWidth: 12, numExperts: 12, expertsPerToken: 3 }],
  ["mistral", "mixtral", { expertWidth: 18, numExperts: 8, expertsPerToken: 4 }],
  ["qwen3", "qwen3_moe", { expertWidth: 9, numExperts: 16, expertsPerToken: 4 }],
];

test("the mixture computes what the dense model computes in transformers, in every family, with whole copies and with slices", (t) => {
  for (const [name, to, changes = {}] of CASES) {
    const { plan, error } = make(t, name, changes);
    assert.deepEqual([plan.to, plan.equal, plan.lost], [to, true, []], name);
    assert.ok(error < EQUAL, `${name} -> ${to} ${JSON.stringify(changes)}: relative error ${error}`);
  }
});

test("noise: of the size asked for, another in each expert, and it changes the result", (t) => {
  const { folder, error, plan } = make(t, "llama", { noise: 0.1 });
  assert.equal(plan.equal, false);
  assert.ok(error > 100 * EQUAL && error < 0.5, `${error}`);
  const gate = (expert: number): number[] =>
    tensorOf(folder, `model.layers.0.block_sparse_moe.experts.${expert}.w1.weight`).values;
  const dense = tensorOf(denseFolder("llama"), "model.layers.0.mlp.gate_proj.weight").values;
  const spread = (values: number[]): number => {
    const mean = values.reduce((total, value) => total + value) / values.length;
    return Math.sqrt(values.reduce((total, value) => total + (value - mean) ** 2, 0) / values.length);
  };
  const added = [0, 1].map((expert) => gate(expert).map((value, i) => value - dense[i]));
  for (const each of added) assert.ok(Math.abs(spread(each) / spread(dense) - 0.1) < 0.01, `${spread(each)}`);
  assert.ok(relativeError(added[0], added[1]) > 1);
  const rows = tensorOf(folder, "model.layers.0.block_sparse_moe.gate.weight");
  assert.deepEqual(rows.shape, [4, 24]);
  assert.ok(Math.abs(spread(rows.values) - 1) < 0.25);
});

test("a seed gives the same files, another one others", (t) => {
  const bytes = (seed: number): Buffer =>
    readFileSync(join(make(t, "qwen3", { noise: 0.01, seed }).folder, "model.safetensors"));
  const first = bytes(1);
  assert.ok(first.equals(bytes(1)));
  assert.ok(!first.equals(bytes(2)));
});

test("slices: the experts of a copy share a router row, and tile the dense MLP", (t) => {
  const { folder } = make(t, "llama", { expertWidth: 12, numExperts: 6, expertsPerToken: 3 });
  const rows = tensorOf(folder, "model.layers.1.block_sparse_moe.gate.weight").values;
  const row = (expert: number): number[] => rows.slice(expert * 24, (expert + 1) * 24);
  assert.deepEqual(row(0), row(2));
  assert.notDeepEqual(row(2), row(3));
  const up = tensorOf(denseFolder("llama"), "model.layers.1.mlp.up_proj.weight").values;
  const slices = [3, 4, 5].flatMap(
    (expert) => tensorOf(folder, `model.layers.1.block_sparse_moe.experts.${expert}.w3.weight`).values,
  );
  assert.deepEqual(slices, up);
});

test("slices that a token does not pick whole are refused, and said when allowed", (t) => {
  const shape = { expertWidth: 12, numExperts: 6, expertsPerToken: 2 };
  assert.throws(
    () => make(t, "llama", shape),
    /loses of the 3 slices of the MLP, a token's 2 experts are not whole copies.*allow_inexact/,
  );
  const { plan, error, folder } = make(t, "llama", { ...shape, allowInexact: true });
  assert.deepEqual([plan.equal, plan.lost.length], [false, 1]);
  assert.ok(error > 100 * EQUAL, `${error}`);
  const rows = tensorOf(folder, "model.layers.1.block_sparse_moe.gate.weight").values;
  assert.notDeepEqual(rows.slice(0, 24), rows.slice(24, 48));
  // Over all experts, gates that are equal on average sum the slices to the MLP.
  const down = tensorOf(denseFolder("llama"), "model.layers.0.mlp.down_proj.weight").values;
  const slice = tensorOf(folder, "model.layers.0.block_sparse_moe.experts.4.w2.weight").values;
  assert.deepEqual(
    slice,
    Array.from({ length: 24 * 12 }, (_, i) => Math.fround(3 * down[36 * Math.floor(i / 12) + 12 + (i % 12)])),
  );
});

test("what a family cannot express is named, refused, and dropped when allowed", (t) => {
  const cases: [name: string, to: UpcycleOptions["to"], changes: Record<string, unknown>, lost: RegExp][] = [
    ["llama", "qwen3_moe", {}, /attention without norms of queries and keys, which qwen3_moe always has/],
    ["qwen3", "mixtral", {}, /the norms of queries and keys, which mixtral does not have/],
    ["qwen2", "mixtral", {}, /the biases of attention, which mixtral does not have/],
    [
      "qwen3-window",
      "qwen2_moe",
      {},
      /norms of queries.*output projection.*the sliding window of 5 tokens, which qwen2_moe/,
    ],
    ["mistral", "qwen2_moe", {}, /the sliding window of 7 tokens, which qwen2_moe does not have/],
    [
      "qwen3-window",
      "auto",
      { layer_types: undefined, max_window_layers: 1 },
      /the sliding window of some layers, where qwen3_moe/,
    ],
    [
      "qwen3-window",
      "auto",
      { layer_types: ["full_attention", "sliding_attention"] },
      /the sliding window of some layers/,
    ],
  ];
  for (const [name, to, changes, lost] of cases) {
    const from = changedDense(t, name, changes);
    assert.throws(() => make(t, name, { to }, from), lost);
    const { plan, error } = make(t, name, { to, allowInexact: true }, from);
    assert.match(plan.lost.join("; "), lost);
    assert.equal(plan.equal, false);
    assert.ok(error > 100 * EQUAL, `${name} -> ${to}: ${error}`);
  }
  assert.throws(() => make(t, "llama", { allowInexact: true }), /allow_inexact has no effect: nothing is lost/);
});

test("dtypes: kept, float16 widened, or as asked; the function is equal up to their rounding", (t) => {
  const bfloat16 = rewritten(t, "qwen3", (tensor) => cast(tensor, "bfloat16"), "bfloat16");
  const float16 = rewritten(t, "qwen3", (tensor) => cast(tensor, "float16"), "float16");
  const shapes = { expertWidth: 18, numExperts: 4, expertsPerToken: 2 };
  const kept = make(t, "qwen3", shapes, bfloat16);
  const asked = make(t, "qwen3", { ...shapes, weightsDtype: "bfloat16" });
  const widened = make(t, "qwen3", shapes, float16);
  assert.deepEqual(
    [kept, asked, widened].map(({ plan }) => plan.dtype),
    ["bfloat16", "bfloat16", "float32"],
  );
  assert.deepEqual(
    [kept, asked, widened].map(({ folder }) => configIn(folder).torch_dtype),
    ["bfloat16", "bfloat16", "float32"],
  );
  assert.equal(kept.error, asked.error);
  assert.ok(kept.error < 0.05 && widened.error < 0.005, `${kept.error} ${widened.error}`);
});

test("config.json says all that loaders need; other files come along; shards keep to their size", (t) => {
  const from = changedDense(t, "smollm", { unk_token_id: 0 });
  writeFileSync(join(from, "tokenizer_config.json"), "{}");
  writeFileSync(join(from, "tokenizer.json"), "{}");
  const { folder, plan } = make(t, "smollm", { maxShardBytes: 60_000 }, from);
  assert.deepEqual(configIn(folder), {
    architectures: ["MixtralForCausalLM"],
    model_type: "mixtral",
    vocab_size: 80,
    hidden_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 6,
    hidden_act: "silu",
    rms_norm_eps: 1e-5,
    max_position_embeddings: 64,
    rope_theta: 1e5,
    rope_scaling: { rope_type: "linear", factor: 2 },
    tie_word_embeddings: true,
    initializer_range: 0.3,
    bos_token_id: 1,
    eos_token_id: [2, 3],
    pad_token_id: null,
    unk_token_id: 0,
    num_experts_per_tok: 2,
    intermediate_size: 36,
    num_local_experts: 4,
    sliding_window: null,
    torch_dtype: "float32",
  });
  // Readers that check types tell 2.0 from 2.
  assert.match(readFileSync(join(folder, "config.json"), "utf8"), /"rope_theta": 100000\.0,[\s\S]*"factor": 2\.0\n/);
  const files = readdirSync(folder);
  for (const file of [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors.index.json",
  ]) {
    assert.ok(files.includes(file), file);
  }
  const opened = openFolder(folder);
  opened.close();
  const count = [...opened.tensors.values()].reduce(
    (total, entry) => total + entry.shape.reduce((product, size) => product * size, 1),
    0,
  );
  assert.deepEqual([count, 4 * count], [plan.parameters, plan.bytes]);
  // Embedding 80 x 24, final norm, and per layer: 2 norms, q and o 24 x 24, k and v 12 x 24, one MLP of 3 x 36 x 24.
  const dense = 80 * 24 + 24 + 2 * (2 * 24 + 2 * 576 + 2 * 288 + 2592);
  assert.deepEqual(plan.denseParameters, dense);
  assert.deepEqual(plan.parametersPerToken, dense + 2 * (2592 + 4 * 24));
});

test("defaults of each family's class count where config.json is silent", (t) => {
  const silent = (name: string, keys: string[]): Record<string, unknown> => {
    const folder = changedDense(t, name, Object.fromEntries(keys.map((key) => [key, undefined])));
    const made = join(temporaryFolder(t), "moe");
    upcycle(folder, made, OPTIONS);
    return configIn(made);
  };
  const mistral = silent("mistral", ["sliding_window", "rope_parameters", "rms_norm_eps", "max_position_embeddings"]);
  assert.deepEqual(
    [mistral.sliding_window, mistral.rope_theta, mistral.rms_norm_eps, mistral.max_position_embeddings],
    [4096, 10_000, 1e-6, 131_072],
  );
  const llama = silent("llama", ["num_key_value_heads", "tie_word_embeddings", "max_position_embeddings"]);
  assert.deepEqual(
    [llama.num_key_value_heads, llama.tie_word_embeddings, llama.max_position_embeddings],
    [4, false, 2048],
  );
  // A head width of 128 is not that of the weights.
  assert.throws(
    () => silent("qwen3", ["head_dim"]),
    /q_proj.weight: shape \[64, 24\] in the checkpoint, \[512, 24\] by config.json/,
  );
});

test("bad input: one sentence, and no folder is left", (t) => {
  const nan = rewritten(
    t,
    "llama",
    (tensor, name) => {
      if (name === "model.layers.1.mlp.up_proj.weight") fill_(select(tensor, 0, 3), Number.NaN);
      return tensor;
    },
    "float32",
  );
  const config = (changes: Record<string, unknown>): string => changedDense(t, "llama", changes);
  const cases: [from: string, changes: Partial<UpcycleOptions>, message: RegExp][] = [
    [nan, {}, /model\.layers\.1\.mlp\.up_proj\.weight holds a number that is not finite/],
    [
      config({ model_type: "gpt2" }),
      {},
      /model_type is "gpt2" \(expected a dense model: llama, mistral, qwen2, qwen3\)/,
    ],
    [config({ model_type: "mixtral" }), {}, /model_type is "mixtral"/],
    [config({ mlp_bias: true }), {}, /"mlp_bias" is true \(expected false/],
    [config({ intermediate_size: 40 }), {}, /the weights do not fit config\.json\. 6 unfit/],
    [config({ tie_word_embeddings: "yes" }), {}, /"tie_word_embeddings" is "yes"/],
    [config({}), { expertWidth: 10 }, /expert_width 10: does not divide the dense MLP's width, 36/],
    [config({}), { expertWidth: 12, numExperts: 8 }, /num_experts 8: expert_width 12 cuts the MLP into 3 slices/],
    [config({}), { expertsPerToken: 5 }, /experts_per_token 5: expected at most num_experts, 4/],
    [config({}), { decoderSparseStep: 3 }, /decoder_sparse_step 3: the model has 2 layers/],
    [
      config({}),
      { to: "mixtral", decoderSparseStep: 2 },
      /mixtral has experts in every layer.*Set to: qwen3_moe or qwen2_moe/,
    ],
    [join(temporaryFolder(t), "none"), {}, /no such folder/],
  ];
  const parent = temporaryFolder(t);
  for (const [from, changes, message] of cases) {
    const attempt = (): unknown => upcycle(from, join(parent, "moe"), { ...OPTIONS, ...changes });
    assert.throws(
      attempt,
      (failure: unknown) =>
        failure instanceof UserError && message.test(failure.message) && !/\n/.test(failure.message),
    );
    assert.deepEqual(readdirSync(parent), []);
  }
});

test("a .gguf file is a dense model like any other", (t) => {
  const file = (name: string): string => denseFolder(`../gguf/dense-${name}`);
  // These have no tokenizer, so they are no whole models; their tensors are made all the same.
  for (const name of ["qwen2", "qwen3"]) {
    const source = openSource(`${file(name)}.gguf`);
    const target = chooseTarget(readDenseModel(source), "auto", OPTIONS);
    assert.deepEqual([target.architecture.modelType, target.lost], [`${name}_moe`, []]);
    const weights = source.openWeights();
    const tensors = upcycledTensors(weights, target, "auto", OPTIONS);
    const up = tensors.find((tensor) => tensor.name === "model.layers.0.mlp.experts.3.up_proj.weight");
    const golden = openSafetensors(`${file(name)}.safetensors`);
    const [made, dense] = scope(() =>
      [up?.read() as Tensor, golden.read("model.layers.0.mlp.up_proj.weight")].map(toArray),
    );
    assert.deepEqual(made, dense);
    for (const opened of [weights, golden]) opened.close();
  }
  // This one has biases in all four projections.
  const attempt = (): unknown => upcycle(`${file("llama")}.gguf`, join(temporaryFolder(t), "moe"), OPTIONS);
  assert.throws(
    attempt,
    /this llama model would not compute the same at the start: it loses the biases of attention, which mixtral/,
  );
});

test("memory: a few copies of one tensor, however many there are", (t) => {
  const peakOf = (numExperts: number): number => {
    resetPeak();
    const before = ledger().liveBytes;
    upcycle(denseFolder("llama"), join(temporaryFolder(t), "moe"), { ...OPTIONS, numExperts, noise: 0.1 });
    return ledger().peakBytes - before;
  };
  // An MLP's matrix has 36 x 24 weights of 4 bytes; noise needs it exact, centred, squared and drawn.
  assert.ok(peakOf(4) <= 5 * 36 * 24 * 4, `${peakOf(4)}`);
  assert.equal(peakOf(16), peakOf(4));
});

test("an existing folder with anything in it is never written to, not even the dense model's own", (t) => {
  const own = changedDense(t, "llama", {});
  assert.throws(() => upcycle(own, own, OPTIONS), /is the folder of the model, which nothing may change/);
  assert.ok(existsSync(join(own, "config.json")));
  const other = changedDense(t, "llama", {});
  for (const overwrite of [false, true])
    assert.throws(() => upcycle(own, other, { ...OPTIONS, overwrite }), /is not replaced, because it holds/);
  assert.ok(existsSync(join(other, "config.json")));
  const empty = join(temporaryFolder(t), "empty");
  mkdirSync(empty);
  upcycle(own, empty, OPTIONS);
  assert.ok(existsSync(join(empty, "model.safetensors")));
});

test("a router's rows are random, shaped to the experts", (t) => {
  const { folder } = make(t, "qwen2", { routerStd: 0.5 });
  assert.deepEqual(tensorOf(folder, "model.layers.0.mlp.gate.weight").shape, [4, 24]);
  assert.deepEqual(new Set(tensorOf(folder, "model.layers.0.mlp.shared_expert_gate.weight").values), new Set([0]));
  assert.equal(new Set(tensorOf(folder, "model.layers.0.mlp.gate.weight").values).size, 96);
});
