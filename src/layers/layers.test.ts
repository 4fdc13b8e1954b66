// Each layer against a slow, obvious float64 version in plain loops.
import assert from "node:assert/strict";
import { test } from "node:test";

import { grad, leaf, withGrad } from "../torch/autograd.js";
import { backwardThrough, record } from "../torch/graph.js";
import { add, hasOp, linear, mm, mul, mulScalar, normal_, select, softmax, sum, transpose } from "../torch/ops.js";
import { ledger } from "../torch/memory.js";
import { setSeed } from "../torch/random.js";
import { free, scope } from "../torch/scope.js";
import { type DType, dtype as dtypeOf, fromArray, shape, type Tensor, toArray, zeros } from "../torch/tensor.js";
import { attend } from "./attention/attend.js";
import { tiledAttention } from "./attention/tiled.js";
import type { Weights } from "../model/architecture.js";
import { freshRouting, RecordedRouting } from "../model/routing.js";
import { unit } from "./dense.js";
import { type RoutedExperts, routedExperts } from "./experts/routed.js";
import { softmaxRouter, topLogitsRouter } from "./experts/router.js";
import { rmsNorm } from "./norm.js";
import { rotate } from "./rotate.js";

const random = (size: number[], type: DType = "float64"): Tensor => normal_(zeros(size, type), 0, 1);

/** Row-major nested access. */
function reader(t: Tensor): (...index: number[]) => number {
  const size = shape(t);
  const values = toArray(t);
  return (...index) => values[index.reduce((at, i, axis) => at * size[axis] + i, 0)];
}

function assertNear(actual: Tensor, expected: number[], bound = 1e-12): void {
  const values = toArray(actual);
  assert.equal(values.length, expected.length);
  for (const [i, value] of values.entries())
    assert.ok(Math.abs(value - expected[i]) < bound, `element ${i}: ${value}, not ${expected[i]}`);
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const dot = (a: number[], b: number[]): number => a.reduce((sum, value, i) => sum + value * b[i], 0);
const silu = (x: number): number => x / (1 + Math.exp(-x));

test("norm: x / sqrt(mean(x^2) + eps) * weight", () => {
  scope(() => {
    setSeed(1);
    const [x_TD, w_D] = [random([3, 5]), random([5])];
    const [x, w] = [reader(x_TD), reader(w_D)];
    const expected = range(3).flatMap((t) => {
      const scale = 1 / Math.sqrt(range(5).reduce((sum, d) => sum + x(t, d) ** 2, 0) / 5 + 1e-3);
      return range(5).map((d) => x(t, d) * scale * w(d));
    });
    assertNear(rmsNorm(x_TD, w_D, 1e-3, "float64"), expected);
  });
});

for (const turning of [6, 4]) {
  for (const neighbours of [undefined, true] as const) {
    const pairs = neighbours ? "neighbours" : `(i, i + ${turning / 2})`;
    test(`rotary positions turn pairs of ${turning} of 6 features, ${pairs}, by their angle`, () => {
      scope(() => {
        setSeed(2);
        const x_THC = random([4, 2, 6]);
        const half = turning / 2;
        const angles = range(4).map((t) => range(half).map((i) => t / 10 ** i));
        const table = (f: (angle: number) => number): Tensor =>
          fromArray(
            angles.flatMap((row) => [...row, ...row].map(f)),
            [4, turning],
            "float64",
          );
        const x = reader(x_THC);
        const expected = range(4).flatMap((t) =>
          range(2).flatMap((h) => {
            const pair = range(half).map((i) =>
              (neighbours ? [2 * i, 2 * i + 1] : [i, i + half]).map((feature) => x(t, h, feature)),
            );
            const turn = (i: number, [a, b]: number[]): number[] => {
              const angle = angles[t][i];
              return [a * Math.cos(angle) - b * Math.sin(angle), b * Math.cos(angle) + a * Math.sin(angle)];
            };
            const turned = pair.map((each, i) => turn(i, each));
            return [
              ...turned.map(([a]) => a),
              ...turned.map(([, b]) => b),
              ...range(6 - turning).map((i) => x(t, h, turning + i)),
            ];
          }),
        );
        assertNear(rotate(x_THC, { cos_TR: table(Math.cos), sin_TR: table(Math.sin), neighbours }), expected);
      });
    });
  }
}

test("heads in bfloat16 turn in float32 where tables are, and come back as they were", () => {
  scope(() => {
    const x_THC = fromArray([1.0078125, 0.5], [1, 1, 2], "bfloat16");
    const [cos_TR, sin_TR] = [0.7, 0.3].map((value) => fromArray([value, value], [1, 2], "float32"));
    const turned_THC = rotate(x_THC, { cos_TR, sin_TR });
    assert.equal(dtypeOf(turned_THC), "bfloat16");
    const [a, b] = [1.0078125 * 0.7 - 0.5 * 0.3, 0.5 * 0.7 + 1.0078125 * 0.3];
    const rounded = toArray(fromArray([a, b], [1, 1, 2], "bfloat16"));
    assert.deepEqual(toArray(turned_THC), rounded);
  });
});

function slowAttention(
  q_THC: Tensor,
  k_TKC: Tensor,
  v_TKC: Tensor,
  segments: number[],
  window = Number.POSITIVE_INFINITY,
): number[] {
  const [[rows, heads, width], [all, groups]] = [shape(q_THC), shape(k_TKC)];
  const [q, k, v] = [reader(q_THC), reader(k_TKC), reader(v_TKC)];
  const start = (t: number): number => {
    let first = 0;
    for (const length of segments) {
      if (t < first + length) return first;
      first += length;
    }
    return first;
  };
  return range(rows).flatMap((t) =>
    range(heads).flatMap((h) => {
      const group = Math.floor(h / (heads / groups));
      const seen = range(all - rows + t + 1)
        .slice(all === rows ? start(t) : 0)
        .slice(-window);
      const scores = seen.map((s) =>
        Math.exp(range(width).reduce((sum, c) => sum + q(t, h, c) * k(s, group, c), 0) / Math.sqrt(width)),
      );
      const total = scores.reduce((sum, score) => sum + score, 0);
      return range(shape(v_TKC)[2]).map((c) =>
        seen.reduce((sum, s, i) => sum + (scores[i] / total) * v(s, group, c), 0),
      );
    }),
  );
}

test("attention is causal, stays in its document and shares keys within a group", () => {
  scope(() => {
    setSeed(3);
    for (const segments of [[7], [3, 1, 3], [3, 3, 1]]) {
      const [q, k, v] = [random([7, 4, 6]), random([7, 2, 6]), random([7, 2, 6])];
      assertNear(attend(q, k, v, segments), slowAttention(q, k, v, segments));
    }
    const [q, k, v] = [random([2, 4, 6]), random([5, 2, 6]), random([5, 2, 3])];
    assertNear(attend(q, k, v, [2]), slowAttention(q, k, v, [2]));
  });
});

test("with a window, a query sees its own key and the last few before it, in documents and with a cache", () => {
  scope(() => {
    setSeed(9);
    for (const window of [1, 2, 3, 6, 7, 100]) {
      for (const segments of [[7], [3, 1, 3]]) {
        const [q, k, v] = [random([7, 4, 6]), random([7, 2, 6]), random([7, 2, 6])];
        assertNear(attend(q, k, v, segments, window), slowAttention(q, k, v, segments, window));
      }
      for (const [rows, all] of [
        [1, 9],
        [3, 9],
        [8, 9],
      ]) {
        const [q, k, v] = [random([rows, 4, 6]), random([all, 2, 6]), random([all, 2, 6])];
        assertNear(attend(q, k, v, [rows], window), slowAttention(q, k, v, [rows], window));
      }
    }
  });
});

test("attention in tiles of any size: values, and gradients equal to those of one graph through all scores", () => {
  scope(() => {
    setSeed(10);
    for (const [segments, window, values] of [
      [[23], null, 6],
      [[23], 5, 4],
      [[23], 1, 6],
      [[9, 1, 13], null, 9],
      [[9, 1, 13], 4, 6],
    ] as const) {
      const [q, k, v] = [random([23, 4, 6]), random([23, 2, 6]), random([23, 2, values])];
      const dOut = random([23, 4, values]);
      const expected = slowAttention(q, k, v, [...segments], window ?? undefined);
      const slow = wholeGradients(q, k, v, dOut, maskOf([...segments], window));
      for (const limits of [
        { scores: 1, rows: 1, keys: 1 },
        { scores: 40, rows: 4, keys: 5 },
        { scores: 100, rows: 7, keys: 7 },
        { scores: 1e6, rows: 4, keys: 16 },
        { scores: 1e6, rows: 256, keys: 2048 },
      ]) {
        const tiled = (q: Tensor, k: Tensor, v: Tensor): Tensor =>
          tiledAttention(q, k, v, [...segments], window, null, limits);
        assertNear(tiled(q, k, v), expected);
        const blocksBefore = ledger().blocks;
        const gradients = scope(() => {
          const graph = record([q, k, v], (...inputs) =>
            tiled(...(inputs.map((t) => mulScalar(t, 1)) as [Tensor, Tensor, Tensor])),
          );
          return backwardThrough(graph, dOut) as Tensor[];
        });
        gradients.forEach((gradient, i) => assertNear(gradient, slow[i]));
        free(...gradients);
        assert.equal(ledger().blocks, blocksBefore);
      }
    }
  });
});

/** 0 where a query sees a key of its document and window, -inf where not. */
function maskOf(segments: number[], window: number | null): Tensor {
  const documents = segments.flatMap((length, document) => new Array<number>(length).fill(document));
  const count = documents.length;
  const sees = (t: number, s: number): boolean =>
    documents[t] === documents[s] && s <= t && (window === null || s > t - window);
  return fromArray(
    range(count).flatMap((t) => range(count).map((s) => (sees(t, s) ? 0 : Number.NEGATIVE_INFINITY))),
    [count, count],
    "float64",
  );
}

/** Gradients of sum(attention * dOut), by one graph of whole matrices, head by head. */
function wholeGradients(q_THC: Tensor, k_TKC: Tensor, v_TKC: Tensor, dOut_THC: Tensor, mask_TT: Tensor): number[][] {
  const [[, heads, width], [, groups]] = [shape(q_THC), shape(k_TKC)];
  const inputs = [q_THC, k_TKC, v_TKC].map((t) => leaf(t));
  const loss = withGrad(() =>
    range(heads)
      .map((h) => {
        const group = Math.floor(h / (heads / groups));
        const [q, k, v] = [select(inputs[0], 1, h), select(inputs[1], 1, group), select(inputs[2], 1, group)];
        const weights = softmax(add(mulScalar(mm(q, transpose(k, 0, 1)), width ** -0.5), mask_TT), -1);
        return sum(mul(mm(weights, v), select(dOut_THC, 1, h)));
      })
      .reduce((a, b) => add(a, b)),
  );
  return grad([loss], inputs, [fromArray([1], [], "float64")]).map((gradient) => toArray(gradient as Tensor));
}

test("the fused form of newer engines and the plain one agree", {
  skip: !hasOp("aten::scaled_dot_product_attention") && "this libtorch has no fused attention",
}, () => {
  scope(() => {
    setSeed(4);
    for (const values of [8, 5, 11]) {
      const [q, k, v] = [random([9, 4, 8]), random([9, 2, 8]), random([9, 2, values])];
      assertNear(attend(q, k, v, [4, 5]), toArray(tiledAttention(q, k, v, [4, 5], null)));
    }
  });
});

const mixture = (x_TD: Tensor, router_ED: Tensor, experts: Omit<RoutedExperts, "biases" | "activation">): Tensor => {
  const plain = { biases: [], activation: { name: "silu" } as const };
  return routedExperts(x_TD, linear(x_TD, router_ED), { ...plain, ...experts }, 0, { routing: freshRouting });
};

for (const normalize of [false, true]) {
  test(`experts: each token's top two, ${normalize ? "rescaled to sum to one" : "as they are"}`, () => {
    scope(() => {
      setSeed(5);
      const [T, D, F, E] = [9, 4, 3, 5];
      const x_TD = random([T, D]);
      const router_ED = random([E, D]);
      const gateUp = range(E).map(() => random([2 * F, D]));
      const down = range(E).map(() => random([D, F]));
      const x = reader(x_TD);
      const router = reader(router_ED);
      const expected = range(T).flatMap((t) => {
        const row = range(D).map((d) => x(t, d));
        const scores = range(E).map((e) =>
          Math.exp(
            dot(
              row,
              range(D).map((d) => router(e, d)),
            ),
          ),
        );
        const total = scores.reduce((sum, score) => sum + score, 0);
        const chosen = range(E)
          .sort((a, b) => scores[b] - scores[a])
          .slice(0, 2);
        const share = normalize ? chosen.reduce((sum, e) => sum + scores[e], 0) : total;
        const outputs = chosen.map((e) => {
          const [up, low] = [reader(gateUp[e]), reader(down[e])];
          const inner = range(F).map(
            (f) =>
              silu(
                dot(
                  row,
                  range(D).map((d) => up(f, d)),
                ),
              ) *
              dot(
                row,
                range(D).map((d) => up(f + F, d)),
              ),
          );
          return range(D).map(
            (d) =>
              (scores[e] / share) *
              dot(
                inner,
                range(F).map((f) => low(d, f)),
              ),
          );
        });
        return range(D).map((d) => outputs.reduce((sum, output) => sum + output[d], 0));
      });
      const experts = { gateUp, down, expertsPerToken: 2, router: softmaxRouter(normalize) };
      assertNear(mixture(x_TD, router_ED, experts), expected);
    });
  });
}

test("an expert without tokens, a single expert, and all experts for every token", () => {
  scope(() => {
    setSeed(6);
    const x_TD = random([3, 4]);
    const expert = (): { gateUp: Tensor; down: Tensor } => ({ gateUp: random([6, 4]), down: random([4, 3]) });
    const one = expert();
    const shares = softmaxRouter(true);
    const single = mixture(x_TD, random([1, 4]), {
      gateUp: [one.gateUp],
      down: [one.down],
      expertsPerToken: 1,
      router: shares,
    });
    const rows = reader(one.gateUp);
    const half = (from: number): Tensor =>
      fromArray(
        range(3).flatMap((f) => range(4).map((d) => rows(f + from, d))),
        [3, 4],
        "float64",
      );
    const matrices: Record<string, Tensor> = { gate: half(0), up: half(3), down: one.down };
    const weights = { linear: (name: string, x: Tensor) => linear(x, matrices[/mlp.(\w+)_proj/.exec(name)![1]]) };
    assertNear(single, toArray(unit(weights as Weights, "mlp", x_TD)));
    const same = {
      gateUp: [one.gateUp, one.gateUp, one.gateUp],
      down: [one.down, one.down, one.down],
      expertsPerToken: 3,
      router: softmaxRouter(false),
    };
    assertNear(mixture(x_TD, random([3, 4]), same), toArray(single));
    assertNear(
      mixture(x_TD, random([3, 4]), { ...same, router: topLogitsRouter, expertsPerToken: 2 }),
      toArray(single),
    );
    const away = fromArray(
      [...range(4).map(() => 0), ...range(4).map(() => 0), ...range(4).map(() => 0)],
      [3, 4],
      "float64",
    );
    assertNear(mixture(x_TD, away, { ...same, expertsPerToken: 1, router: shares }), toArray(single));
  });
});

test("recorded routing replays its choice where scores tie or change, and frees what it kept", () => {
  const before = ledger();
  scope(() => {
    const routing = new RecordedRouting(4);
    const tied = fromArray([0.25, 0.25, 0.25, 0.25, 0.1, 0.2, 0.3, 0.4], [2, 4], "float32");
    const first = toArray(routing.choose(0, () => tied, 2));
    assert.deepEqual(first.slice(2), [3, 2]);
    const changed = fromArray([0.1, 0.2, 0.3, 0.4, 0.4, 0.3, 0.2, 0.1], [2, 4], "float32");
    assert.deepEqual(toArray(routing.choose(0, () => changed, 2)), first);
    assert.notDeepEqual(toArray(freshRouting.choose(0, () => changed, 2)), first);
    assert.equal(routing.bytes, 4);
    const counted = (sent: number[]): Tensor | null => routing.counted(0, fromArray(sent, [4], "int64"));
    for (const sent of [
      [1, 0, 2, 1],
      [9, 9, 9, 9],
    ])
      assert.equal(counted(sent), null, "on a CPU they are there already");
    routing.from(2).counted(0, fromArray([0, 3, 0, 1], [4], "int64"));
    assert.deepEqual([...routing.counts()], [[0, [1, 3, 2, 2]]]);
    const many = new RecordedRouting(300);
    many.choose(0, () => random([2, 300], "float32"), 3);
    assert.equal(many.bytes, 12);
    routing.free();
    many.free();
  });
  assert.deepEqual([ledger().tensors, ledger().liveBytes], [before.tensors, before.liveBytes]);
});
