// The gated delta rule in chunks and tiles of any size against one graph that goes token by token: values, states, and every gradient;
// documents by themselves; pieces with a cache.
import assert from "node:assert/strict";
import { test } from "node:test";

import { grad, leaf, takeGrad, withGrad } from "../../torch/autograd.js";
import { GrowingCache } from "../../generate/cache.js";
import type { ParameterSpec, Weights } from "../../model/architecture.js";
import type { Context } from "../../model/context.js";
import { freshRouting } from "../../model/routing.js";
import { backwardThrough, record } from "../../torch/graph.js";
import { ledger } from "../../torch/memory.js";
import {
  add,
  cat,
  exp,
  linear,
  mm,
  mul,
  mulScalar,
  narrow,
  neg,
  normal_,
  reshape,
  rsqrt,
  addScalar,
  select,
  sigmoid,
  silu,
  softplus,
  square,
  sub,
  sumDim,
} from "../../torch/ops.js";
import { setSeed } from "../../torch/random.js";
import { scope } from "../../torch/scope.js";
import { shape, type Tensor, toArray, zeros } from "../../torch/tensor.js";
import { rmsNorm } from "../norm.js";
import { deltaRule } from "./delta-rule.js";
import { groupedProjections, plainProjections, type Projected, split } from "./delta-projections.js";
import type { GatedDelta } from "./delta-settings.js";
import { type DeltaLimits, gatedDeltaAttention } from "./gated-delta.js";

const HEADS = { keyHeads: 2, keyWidth: 4, valueHeads: 6, valueWidth: 3 };
const SHARED = HEADS.valueHeads / HEADS.keyHeads;
const SETTINGS = {
  hiddenSize: 5,
  normEpsilon: 1e-3,
  normForm: "product with 1 + w rounded",
  ...HEADS,
  kernel: 4,
} as const;
const LAYOUTS: Record<string, GatedDelta> = {
  grouped: { ...SETTINGS, projections: groupedProjections(HEADS) },
  plain: { ...SETTINGS, projections: plainProjections(HEADS) },
};
const LIMITS: DeltaLimits[] = [
  { chunk: 1, tile: 1 },
  { chunk: 3, tile: 6 },
  { chunk: 4, tile: 4 },
  { chunk: 5, tile: 1000 },
  { chunk: 64, tile: 256 },
];
const SEGMENTS = [13, 1, 6, 6, 2];
const T = SEGMENTS.reduce((all, length) => all + length, 0);

const random = (...size: number[]): Tensor => normal_(zeros(size, "float64"), 0, 1);
const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

function assertNear(actual: number[], expected: number[], what: string): void {
  assert.equal(actual.length, expected.length, what);
  const scale = Math.max(1e-3, ...expected.map(Math.abs));
  for (const [i, value] of actual.entries())
    assert.ok(Math.abs(value - expected[i]) < 1e-11 * scale, `${what}, element ${i}: ${value}, not ${expected[i]}`);
}

/** S <- e^g S, S <- S + b k (v - S^T k)^T, o = S^T q, of one head and one token. */
function stepOf(S_CV: Tensor, [q_C, k_C, v_V, g, b]: Tensor[]): { o_1V: Tensor; S_CV: Tensor } {
  const row = (t: Tensor): Tensor => reshape(t, [1, -1]);
  const faded_CV = mul(S_CV, exp(g));
  const delta_1V = mul(sub(row(v_V), mm(row(k_C), faded_CV)), b);
  const after_CV = add(faded_CV, mm(reshape(k_C, [-1, 1]), delta_1V));
  return { o_1V: mm(row(q_C), after_CV), S_CV: after_CV };
}

for (const chunk of [1, 2, 5, 64]) {
  test(`chunks of ${chunk}: what tokens read, and the state behind them, are those of the recurrence`, () => {
    scope(() => {
      setSeed(chunk);
      const tokens = {
        q_THC: random(13, 3, 4),
        k_THC: random(13, 3, 4),
        v_THV: random(13, 3, 2),
        logDecay_TH: neg(square(random(13, 3))),
        rate_TH: sigmoid(random(13, 3)),
      };
      const start_HCV = random(3, 4, 2);
      const found = deltaRule(tokens, start_HCV, chunk);
      for (const h of range(3)) {
        let S_CV = select(start_HCV, 0, h);
        for (const t of range(13)) {
          const parts = Object.values(tokens).map((each) => select(select(each, 0, t), 0, h));
          const step = stepOf(S_CV, parts);
          S_CV = step.S_CV;
          assertNear(toArray(select(select(found.out_THV, 0, t), 0, h)), toArray(step.o_1V), `token ${t}`);
        }
        assertNear(toArray(select(found.state_HCV, 0, h)), toArray(S_CV), `state ${h}`);
      }
    });
  });
}

type Named = Record<string, Tensor>;

const weightsOf = (tensors: Named): Weights => ({
  get: (name) => tensors[name],
  experts: () => [],
  linear: (name, x) => linear(x, tensors[`${name}.weight`]),
});

const contextOf = (segments: number[], cache?: GrowingCache): Context => ({
  segments,
  ends_S: null,
  rotary: [],
  computeDtype: "float64",
  routing: freshRouting,
  cache,
});

const randomWeights = (parameters: ParameterSpec[]): Named =>
  Object.fromEntries(parameters.map(({ name, shape }) => [name, mulScalar(random(...shape), 0.7)]));

/** The branch of one document, token by token and head by head. */
function slowly({ projections, normEpsilon }: GatedDelta, weights: Named, x_TD: Tensor): Tensor {
  const own = (name: string): Tensor => weights[`linear_attn.${name}`];
  const h_TD = rmsNorm(x_TD, weights["input_layernorm.weight"], normEpsilon, "float64", "product with 1 + w rounded");
  const parts: Projected = split(
    projections,
    projections.matrices.map(({ name }) => linear(h_TD, own(`${name}.weight`))),
  );
  const raw_TN = cat([parts.q_TN, parts.k_TN, parts.v_TN], 1);
  const [length, channels] = shape(raw_TN);
  const conv_NK = reshape(own("conv1d.weight"), [channels, 4]);
  const mixed = range(length).map((t) =>
    silu(
      range(4)
        .filter((j) => t - 3 + j >= 0)
        .map((j) => mul(select(raw_TN, 0, t - 3 + j), select(conv_NK, 1, j)))
        .reduce((a, b) => add(a, b)),
    ),
  );
  const { keyWidth: C, valueWidth: V, keyHeads, valueHeads } = HEADS;
  const unit = (t_C: Tensor): Tensor => mul(t_C, rsqrt(addScalar(sumDim(square(t_C), [0], true), 1e-6)));
  const heads = range(valueHeads).map((h) => {
    const key = Math.floor(h / SHARED);
    let S_CV = zeros([C, V], "float64");
    return mixed.map((token_N, t) => {
      const at = (parts_TH: Tensor): Tensor => select(select(parts_TH, 0, t), 0, h);
      const decay = neg(
        mul(exp(select(own("A_log"), 0, h)), softplus(add(at(parts.a_TH), select(own("dt_bias"), 0, h)))),
      );
      const step = stepOf(S_CV, [
        mulScalar(unit(narrow(token_N, 0, key * C, C)), C ** -0.5),
        unit(narrow(token_N, 0, keyHeads * C + key * C, C)),
        narrow(token_N, 0, 2 * keyHeads * C + h * V, V),
        decay,
        sigmoid(at(parts.b_TH)),
      ]);
      S_CV = step.S_CV;
      const z_1V = reshape(narrow(select(parts.z_TN, 0, t), 0, h * V, V), [1, V]);
      return mul(rmsNorm(step.o_1V, own("norm.weight"), normEpsilon, "float64"), silu(z_1V));
    });
  });
  const out_TN = cat(
    range(length).map((t) =>
      cat(
        heads.map((rows) => rows[t]),
        1,
      ),
    ),
    0,
  );
  return linear(out_TN, own("out_proj.weight"));
}

for (const [layout, settings] of Object.entries(LAYOUTS)) {
  for (const limits of LIMITS) {
    test(`${layout} projections, chunks of ${limits.chunk} in tiles of ${limits.tile}: values and gradients`, () => {
      const before = ledger();
      scope(() => {
        setSeed(5);
        const branch = gatedDeltaAttention(0, settings, limits);
        const weights = randomWeights(branch.parameters);
        const [x_TD, dOut_TD] = [random(T, 5), random(T, 5)];

        const leaves = Object.fromEntries(Object.entries(weights).map(([name, t]) => [name, leaf(t)]));
        const xLeaf_TD = leaf(x_TD);
        let start = 0;
        const slow_TD = withGrad(() =>
          cat(
            SEGMENTS.map((length) => slowly(settings, leaves, narrow(xLeaf_TD, 0, (start += length) - length, length))),
            0,
          ),
        );
        const expected = grad([slow_TD], [xLeaf_TD, ...Object.values(leaves)], [dOut_TD]) as Tensor[];

        const own = Object.fromEntries(Object.entries(weights).map(([name, t]) => [name, leaf(t)]));
        const graph = record([x_TD], (x) => branch.evaluate(weightsOf(own), x, contextOf(SEGMENTS)));
        assertNear(toArray(graph.y), toArray(slow_TD), "values");
        assertNear(
          toArray(branch.evaluate(weightsOf(own), x_TD, contextOf(SEGMENTS))),
          toArray(slow_TD),
          "values alone",
        );
        const [dx_TD] = backwardThrough(graph, dOut_TD);
        assertNear(toArray(dx_TD as Tensor), toArray(expected[0]), "dx");
        for (const [i, [name, t]] of Object.entries(own).entries())
          assertNear(toArray(takeGrad(t) as Tensor), toArray(expected[i + 1]), name);
      });
      assert.deepEqual([ledger().tensors, ledger().liveBytes], [before.tensors, before.liveBytes]);
    });
  }
}

test("pieces of a text with a cache give what the whole gives, and the cache does not grow", () => {
  scope(() => {
    setSeed(6);
    const branch = gatedDeltaAttention(3, LAYOUTS.plain, { chunk: 4, tile: 8 });
    const weights = weightsOf(randomWeights(branch.parameters));
    const x_TD = random(24, 5);
    const whole = toArray(branch.evaluate(weights, x_TD, contextOf([24])));
    const cache = new GrowingCache();
    const live: number[] = [];
    let row = 0;
    for (const length of [2, 1, 9, 1, 1, 10]) {
      const piece = scope(() =>
        toArray(branch.evaluate(weights, narrow(x_TD, 0, row, length), contextOf([length], cache))),
      );
      assertNear(piece, whole.slice(5 * row, 5 * (row + length)), `from row ${row}`);
      live.push(ledger().liveBytes);
      row += length;
    }
    assert.deepEqual(new Set(live).size, 1);
    cache.free();
  });
});

test("weights that are frozen take no gradient, and leave those of the others as they are", () => {
  scope(() => {
    setSeed(7);
    const branch = gatedDeltaAttention(0, LAYOUTS.grouped, { chunk: 4, tile: 8 });
    const weights = randomWeights(branch.parameters);
    const [x_TD, dOut_TD] = [random(T, 5), random(T, 5)];
    const gradientsOf = (frozen: string[]): number[][] => {
      const own = Object.fromEntries(
        Object.entries(weights).map(([name, t]) => [name, frozen.includes(name) ? t : leaf(t)]),
      );
      const graph = record([x_TD], (x) => branch.evaluate(weightsOf(own), x, contextOf(SEGMENTS)));
      const [dx_TD] = backwardThrough(graph, dOut_TD);
      return [
        toArray(dx_TD as Tensor),
        ...Object.keys(own).map((name) => (frozen.includes(name) ? [] : toArray(takeGrad(own[name]) as Tensor))),
      ];
    };
    const frozen = ["linear_attn.A_log", "linear_attn.conv1d.weight", "linear_attn.in_proj_ba.weight"];
    const names = ["", ...Object.keys(weights)];
    const all = gradientsOf([]);
    for (const [i, found] of gradientsOf(frozen).entries())
      assert.deepEqual(found, frozen.includes(names[i]) ? [] : all[i], names[i]);
  });
});

test("keys and values come from the memory, queries and gates from the input", () => {
  scope(() => {
    setSeed(8);
    for (const settings of Object.values(LAYOUTS)) {
      const branch = gatedDeltaAttention(0, settings, { chunk: 4, tile: 8 });
      const weights = weightsOf(randomWeights(branch.parameters));
      const [x_TD, other_TD] = [random(T, 5), random(T, 5)];
      const of = (x: Tensor, memory?: Tensor): number[] => toArray(branch.evaluate(weights, x, contextOf([T]), memory));
      assertNear(of(x_TD, mulScalar(x_TD, 1)), of(x_TD), "the same memory");
      assert.notDeepEqual(of(x_TD, other_TD), of(x_TD));
      assert.notDeepEqual(of(x_TD, other_TD), of(other_TD));

      // Both inputs being one, their gradients are parts of its own.
      const dOut_TD = random(T, 5);
      const apart = record([x_TD, x_TD], (x, memory) => branch.evaluate(weights, x, contextOf(SEGMENTS), memory));
      const [dx_TD, dMemory_TD] = backwardThrough(apart, dOut_TD) as Tensor[];
      const together = record([x_TD], (x) => branch.evaluate(weights, x, contextOf(SEGMENTS)));
      const [whole_TD] = backwardThrough(together, dOut_TD) as Tensor[];
      assertNear(toArray(add(dx_TD, dMemory_TD)), toArray(whole_TD), "gradients of both");
    }
  });
});
