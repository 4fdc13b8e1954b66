// Couplings on toy blocks: in float64 their gradients equal those of one plain autograd graph, also where every input is
// rebuilt; on the integer grid every inverse is exact at any depth.
import assert from "node:assert/strict";
import { test } from "node:test";

import { detach, grad, leaf, withGrad } from "../torch/autograd.js";
import {
  abs,
  add,
  addScalar,
  amax,
  equal,
  mm,
  mul,
  mulScalar,
  mulScalar_,
  narrow,
  normal_,
  sigmoid,
  silu,
  sub,
  sum,
  sumDim,
} from "../torch/ops.js";
import { setSeed } from "../torch/random.js";
import { free, keep, scope } from "../torch/scope.js";
import { type DType, fromArray, full, item, shape, toArray, zeros, type Tensor } from "../torch/tensor.js";
import { additive } from "./couplings/additive.js";
import { bdia } from "./couplings/bdia.js";
import type { Branch, Coupling } from "./coupling.js";
import type { BatchState } from "./methods/method.js";
import { METHODS } from "./methods/registry.js";
import { GAMMAS } from "./couplings/gamma.js";
import { momentum } from "./couplings/momentum.js";
import type { Solution } from "./fixed-point.js";
import { ordinary } from "./couplings/ordinary.js";
import { revffn, type RevffnSettings } from "./couplings/revffn.js";
import type { Stage } from "./stages.js";
import { floatStreams, gridStreams, type StreamFormat } from "./streams.js";

const WIDTH = 8;
const SOLVER = {
  iterations: 3,
  tolerance: 0,
  start: "output",
  damping: 1,
  anderson: false,
  storedHint: false,
} as const;
const PRECISE = { ...SOLVER, iterations: 100, tolerance: 1e-15 };
const EXACT = [
  additive,
  ...GAMMAS.map(momentum),
  ...[0.5, 0.25, 0.125].map(bdia),
  revffn({ ...SOLVER, storedHint: true }),
  revffn({ ...SOLVER, storedHint: true, iterations: 1, start: "zero" }),
];
/** Both signs, other ones for every unit. */
const signsOf = (unit: number): Tensor =>
  fromArray([1, -1, unit % 2 === 0 ? -1 : 1, unit % 3 === 0 ? 1 : -1], [4, 1], "float32");

interface Weights {
  first: Tensor;
  second: Tensor;
}

interface Toy {
  weights: Weights[];
  x_TD: Tensor;
  dHidden_TD: Tensor;
}

function makeToy(depth: number, type: DType): Toy {
  setSeed(5);
  const random = (size: number[], scale: number): Tensor => mulScalar(normal_(zeros(size, type), 0, 1), scale);
  const gain = 0.9 / Math.sqrt(depth + 1); // so that deep toys do not leave the grid
  return {
    weights: Array.from({ length: depth }, () => ({
      first: random([WIDTH, WIDTH], gain),
      second: random([WIDTH, WIDTH], gain),
    })),
    x_TD: random([4, WIDTH], 1),
    dHidden_TD: random([4, WIDTH], 1),
  };
}

// Two smooth branches with nothing in common with a transformer. The first mixes tokens, the second does not. Streams of
// half the width use a quarter of the weights, and a fifth of the first branch, so that it contracts.
const quarter = (whole: Tensor, like: Tensor): Tensor =>
  narrow(narrow(whole, 0, 0, shape(like)[1]), 1, 0, shape(like)[1]);
const attention = ({ first }: Weights, x: Tensor, memory?: Tensor): Tensor => {
  const y = mul(silu(mm(x, quarter(first, x))), sigmoid(sumDim(memory ?? x, [0], true)));
  return memory === undefined ? y : mulScalar(y, 0.2);
};
const feedForward = ({ first, second }: Weights, x: Tensor): Tensor =>
  mm(silu(mm(x, quarter(second, x))), quarter(first, x));

function evaluate(weights: Weights, branch: Branch, x_TD: Tensor, memory_TD?: Tensor): Tensor {
  if (branch === "attention") return attention(weights, x_TD, memory_TD);
  if (branch === "feedForward") return feedForward(weights, x_TD);
  const a_TD = attention(weights, x_TD);
  return add(a_TD, feedForward(weights, add(x_TD, a_TD)));
}

function stagesOf(weights: Weights, branch: Branch): Stage<null>[] {
  const mixing: Stage<null> = {
    tokenwise: false,
    span: "attention",
    evaluate: (x, _context, _first, memory) => attention(weights, x, memory),
  };
  const tokenwise: Stage<null> = { tokenwise: true, span: "feed-forward", evaluate: (x) => feedForward(weights, x) };
  return { attention: [mixing], feedForward: [tokenwise], both: [mixing, tokenwise] }[branch];
}

/** d sum(hidden * dHidden) with respect to the input and every weight, everything in one graph. */
function plainGradients({ weights, x_TD, dHidden_TD }: Toy, coupling: Coupling, format: StreamFormat): number[][] {
  const leaves = weights.map(({ first, second }) => ({ first: leaf(first), second: leaf(second) }));
  const input = leaf(x_TD);
  const loss = withGrad(() => {
    let streams = coupling.begin(input, format);
    for (const [unit, layer] of leaves.entries()) {
      const pass = { unit, wantBits: false, signs_T1: signsOf(unit) };
      ({ streams } = coupling.forward(
        streams,
        (branch, ...inputs) => evaluate(layer, branch, ...inputs),
        format,
        pass,
      ));
    }
    return sum(mul(coupling.end(streams, format), dHidden_TD));
  });
  const inputs = [input, ...leaves.flatMap(({ first, second }) => [first, second])];
  return grad([loss], inputs, [full([], 1, "float64")]).map((gradient) => toArray(gradient as Tensor));
}

/** The same by the engine, block by block; with it, whether the first streams came back to the bit. */
function engineGradients(
  { weights, x_TD, dHidden_TD }: Toy,
  coupling: Coupling,
  format: StreamFormat,
  method: keyof typeof METHODS,
  tileTokens = 0,
): { gradients: number[][]; restored: boolean } {
  const net = { coupling, format, tileTokens };
  const begun = coupling.begin(mulScalar(x_TD, 1), format);
  const streams = coupling.begin(mulScalar(x_TD, 1), format).map(keep);
  const batch: BatchState<null> = { context: null, streams, dStreams: [], kept: [], signs: signsOf };
  const buffers = weights.map(({ first }) => ({ first: mulScalar(first, 0), second: mulScalar(first, 0) }));
  const blocks = weights.map(({ first, second }, layer) => {
    const leaves = { first: leaf(first, buffers[layer].first), second: leaf(second, buffers[layer].second) };
    return { stages: (branch: Branch) => stagesOf(leaves, branch) };
  });
  blocks.forEach((block, layer) => METHODS[method].forward(layer, block, batch, net));
  batch.dStreams = coupling.endGradient(mulScalar(dHidden_TD, 1)).map(keep);
  for (let layer = blocks.length - 1; layer >= 0; layer--) METHODS[method].backward(layer, blocks[layer], batch, net);
  const gradients = [
    coupling.beginGradient(batch.dStreams),
    ...buffers.flatMap(({ first, second }) => [first, second]),
  ].map(toArray);
  const restored = batch.streams.length > 0 && begun.every((stream, i) => equal(stream, batch.streams[i]));
  free(...batch.streams, ...batch.dStreams);
  return { gradients, restored };
}

function relativeError(actual: number[][], expected: number[][]): number {
  return Math.max(
    ...expected.map((row, i) => {
      const size = Math.sqrt(row.reduce((total, value) => total + value * value, 0));
      return Math.sqrt(row.reduce((total, value, j) => total + (value - actual[i][j]) ** 2, 0)) / size;
    }),
  );
}

for (const coupling of [
  ordinary,
  ...EXACT.slice(0, -2),
  revffn(PRECISE),
  revffn({ ...PRECISE, anderson: true }),
  revffn({ ...PRECISE, damping: 0.75, start: "zero" }),
]) {
  test(`${coupling.name}: float64 gradients equal those of one autograd graph within 2e-10`, () => {
    scope(() => {
      // Three blocks: rebuilding float streams multiplies rounding by 1/gamma per block.
      const toy = makeToy(3, "float64");
      const format = floatStreams("float64");
      const expected = plainGradients(toy, coupling, format);
      const recording = ["store", "checkpoint", "checkpoint-offload"] as const;
      for (const method of coupling.reversible ? ([...recording, "reversible"] as const) : recording) {
        for (const tileTokens of [0, 1, 3, 4]) {
          const { gradients } = engineGradients(toy, coupling, format, method, tileTokens);
          const error = relativeError(gradients, expected);
          assert.ok(error < 2e-10, `${method}, tiles of ${tileTokens}: ${error}`);
        }
      }
    });
  });
}

for (const coupling of EXACT) {
  test(`${coupling.name}: 4, 24 and 96 blocks on the grid come back to the bit`, () => {
    for (const depth of [4, 24, 96]) {
      for (const format of [gridStreams("int32", 16), gridStreams("int32", 10), gridStreams("int64", 32)]) {
        scope(() => {
          const toy = makeToy(depth, "float32");
          // Tiles and graphs do not know how deep they are.
          for (const tileTokens of depth < 96 ? [0, 3] : [3]) {
            const rebuilt = engineGradients(toy, coupling, format, "reversible", tileTokens);
            assert.ok(rebuilt.restored, `${format.name} at depth ${depth}`);
            for (const method of depth < 24 ? (["store", "checkpoint"] as const) : (["checkpoint"] as const)) {
              assert.deepEqual(rebuilt.gradients, engineGradients(toy, coupling, format, method, tileTokens).gradients);
            }
          }
        });
      }
    }
  });
}

test("float32 streams do not come back: the reason for the grid", () => {
  scope(() => {
    const toy = makeToy(24, "float32");
    assert.equal(engineGradients(toy, momentum(0.25), floatStreams("float32"), "reversible").restored, false);
  });
});

test("a small gamma is close to the ordinary network, a gamma of -1 is not", () => {
  scope(() => {
    const toy = makeToy(6, "float64");
    const format = floatStreams("float64");
    const hidden = (coupling: Coupling): number[] => {
      let streams = coupling.begin(toy.x_TD, format);
      for (const [unit, layer] of toy.weights.entries()) {
        const apply = (branch: Branch, value: Tensor): Tensor => evaluate(layer, branch, detach(value));
        ({ streams } = coupling.forward(streams, apply, format, { unit, wantBits: false }));
      }
      return toArray(coupling.end(streams, format));
    };
    const truth = hidden(ordinary);
    const distance = (gamma: number): number => relativeError([hidden(momentum(gamma))], [truth]);
    assert.ok(distance(0.125) < distance(0.25) && distance(0.25) < distance(0.5) && distance(0.5) < distance(-1));
    assert.throws(() => momentum(0.3), /gamma: 0\.3 is not possible \(expected -1, or \+ or - one of 1\/2/);
  });
});

test("bdia is its published recurrence, and the first block is an ordinary step", () => {
  scope(() => {
    const toy = makeToy(5, "float64");
    const format = floatStreams("float64");
    const f = (unit: number, p: Tensor): Tensor => evaluate(toy.weights[unit], "both", p);
    const coupling = bdia(0.25);
    let streams = coupling.begin(toy.x_TD, format);
    let [before, now] = [toy.x_TD, add(toy.x_TD, f(0, toy.x_TD))];
    for (const unit of toy.weights.keys()) {
      const signs_T1 = signsOf(unit);
      ({ streams } = coupling.forward(streams, (_branch, value) => f(unit, value), format, {
        unit,
        wantBits: false,
        signs_T1,
      }));
      if (unit === 0) continue;
      // Our sign is that of the factor on v, which is -gamma.
      const gamma = mulScalar(signs_T1, -0.25);
      const next = add(
        add(mul(before, gamma), mul(now, addScalar(mulScalar(gamma, -1), 1))),
        mul(f(unit, now), addScalar(gamma, 1)),
      );
      [before, now] = [now, next];
    }
    assert.ok(relativeError([toArray(coupling.end(streams, format))], [toArray(now)]) < 1e-12);
  });
});

test("revffn by iteration alone: closer with every evaluation, and a branch that does not contract is reported", () => {
  const run = (settings: Partial<RevffnSettings>, gain: number): { error: number; solutions: Solution[] } =>
    scope(() => {
      const toy = makeToy(4, "float32");
      for (const { first, second } of toy.weights) [first, second].forEach((weight) => mulScalar_(weight, gain));
      const format = gridStreams("int32", 16);
      const solutions: Solution[] = [];
      const coupling = revffn({ ...SOLVER, ...settings });
      const batch: BatchState<null> = {
        context: null,
        streams: coupling.begin(toy.x_TD, format).map(keep),
        dStreams: [],
        kept: [],
        report: (_unit, solution) => solutions.push(solution),
      };
      const blocks = toy.weights.map((weights) => ({ stages: (branch: Branch) => stagesOf(weights, branch) }));
      const net = { coupling, format };
      blocks.forEach((block, unit) => METHODS.reversible.forward(unit, block, batch, net));
      batch.dStreams = coupling.endGradient(toy.dHidden_TD).map(keep);
      for (const unit of [3, 2, 1, 0]) METHODS.reversible.backward(unit, blocks[unit], batch, net);
      const error = Math.max(
        ...coupling.begin(toy.x_TD, format).map((x, i) => item(amax(abs(sub(x, batch.streams[i]))))),
      );
      free(...batch.streams, ...batch.dStreams);
      return { error, solutions };
    });
  const [one, three, fifty] = [1, 3, 50].map((iterations) => run({ iterations }, 1));
  assert.ok(one.error > three.error && three.error > fifty.error, `${one.error} ${three.error} ${fifty.error}`);
  assert.equal(fifty.error, 0, "on the grid the iteration ends on the very point");
  assert.ok(
    fifty.solutions.every(({ residual, diverged, iterations }) => residual === 0 && !diverged && iterations < 50),
  );
  const total = (settings: Partial<RevffnSettings>): number =>
    run({ iterations: 200, ...settings }, 2.5).solutions.reduce((sum, { iterations }) => sum + iterations, 0);
  assert.ok(total({ anderson: true }) < total({}), `${total({ anderson: true })} ${total({})}`);
  assert.ok(run({ iterations: 20 }, 12).solutions.some(({ diverged }) => diverged));
  assert.equal(run({ iterations: 20, storedHint: true }, 12).error, 0, "the hint makes even that exact");
});
