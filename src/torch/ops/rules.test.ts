// Every operator once, on the real engine and on the one that counts: the same shapes, types and bytes, of results and of the gradients
// that the rule speaks of. A row without a call here fails.
import assert from "node:assert/strict";
import { test } from "node:test";

import { backward, leaf, takeGrad, withGrad } from "../autograd.js";
import { ledger } from "../memory.js";
import * as ops from "../ops.js";
import { scope } from "../scope.js";
import { onShadow } from "../shadow.js";
import { type DType, dtype, fromArray, shape, type Tensor, zeros } from "../tensor.js";
import { countsOf } from "./testing-rows.js";

const f = (...size: number[]): Tensor => zeros(size, "float32");
const int = (...size: number[]): Tensor => zeros(size, "int32");
const of = (type: DType, ...size: number[]): Tensor => zeros(size, type);
const index = (): Tensor => fromArray([2, 0, 1], [3], "int64");
const turned = (): Tensor => ops.transpose(f(6, 4), 0, 1);
const list = (count: number, ...size: number[]): Tensor[] => Array.from({ length: count }, () => f(...size));

/** A moment in 8 bits. */
const moment = (count: number): Tensor[] => [of("uint8", count), f(Math.ceil(count / 256))];
const DELTA: ops.DeltaSizes = { keyHeads: 2, shared: 2, keyWidth: 4, valueWidth: 3, taps: 4, chunk: 2 };
/** Of three tokens, whose rows lie in one tensor. */
function deltaCall(way: "forward" | "backward"): unknown[] {
  const rows = [f(3, 48)];
  const weights = (): Tensor[] => [f(4, 28), f(4), f(4), f(3)];
  const state = (): Tensor[] => [f(3, 28), f(2, 4, 6)];
  const given = [rows, weights(), state(), f(ops.deltaFloats(DELTA, 3, "cpu", way))];
  const rest = [[0, 0, 4, 0, 8, 4, 0, 16, 6, 0, 28, 6, 0, 40, 2, 0, 44, 2], ops.sizesOf(DELTA), 1e-6];
  return way === "forward"
    ? [f(3, 12), ...given, ...rest]
    : [[f(3, 48)], weights(), state(), f(3, 12), ...given, ...rest];
}
/** x, gates, places and counts of 9 tokens with two choices each. */
const routed = (): (Tensor | null)[] => {
  const places = fromArray([...Array(18).keys()], [9, 2], "int64");
  return [f(9, 8), f(9, 2), places, countsOf([10, 8]), null];
};

const hasDocumentAttention = ops.hasOp("revmoe::document_attention");
/** Queries, keys and values of documents of these lengths. */
const headsOf = (...documents: number[]): [Tensor, Tensor, Tensor, number[]] => {
  const tokens = documents.reduce((sum, length) => sum + length, 0);
  const heads = (count: number): Tensor => of("bfloat16", tokens, count, 32);
  return [heads(4), heads(2), heads(2), documents];
};

type Operators = { [Name in keyof typeof ops as (typeof ops)[Name] extends { rule: unknown } ? Name : never]: true };
/** Arguments of calls of each operator; none for what no plan runs, and for what a CPU or an older libtorch has not. */
const CALLS: Record<keyof Operators, (() => unknown[])[]> = {
  add: [() => [f(4, 6), f(6)], () => [f(4, 1), f(4, 6), 2], () => [f(4, 6), of("bfloat16", 4, 6)]],
  add_: [() => [f(4, 6), of("bfloat16", 4, 6)]],
  addScalar: [() => [turned(), 1], () => [int(3), 0.5]],
  addScalar_: [() => [f(4), 1]],
  sub: [() => [f(4, 6), f(4, 1)]],
  sub_: [() => [f(4, 6), f(6), 0.1]],
  mul: [() => [f(4, 6), f(6)], () => [of("bfloat16", 4, 6), f(4, 6)]],
  mul_: [() => [f(4, 6), f(4, 1)]],
  mulScalar: [() => [f(4, 6), 0.5], () => [int(5), 2]],
  mulScalar_: [() => [f(4), 0.5]],
  div: [() => [f(4, 6), f(4, 1)]],
  div_: [() => [f(4, 6), f(6)]],
  neg: [() => [turned()]],
  neg_: [() => [f(4)]],
  sign_: [() => [f(4)]],
  tanh_: [() => [f(4)]],
  abs: [() => [f(4, 6)]],
  sqrt: [() => [f(4, 6)]],
  rsqrt: [() => [f(4, 6)]],
  square: [() => [f(4, 6)]],
  cos: [() => [f(4, 6)]],
  sin: [() => [f(4, 6)]],
  log: [() => [f(4, 6)]],
  reciprocal: [() => [f(4, 6)]],
  exp: [() => [f(4, 6)]],
  exp_: [() => [f(4)]],
  softplus: [() => [f(4, 6)]],
  silu: [() => [f(4, 6)]],
  sigmoid: [() => [f(4, 6)]],
  logAddExp: [() => [f(4, 6), f(4, 1)]],
  maximum: [() => [f(4, 6), f(6)]],
  lerp_: [() => [f(4), f(4), 0.1]],
  addcmul_: [() => [f(4), f(4), f(4), 2]],
  addcdiv_: [() => [f(4), f(4), f(4)]],
  round_: [() => [f(4)]],
  clamp: [() => [f(4, 6), 0, null], () => [f(4), -1, 1]],
  clamp_: [() => [f(4), 0, 1]],
  bitAnd: [() => [int(4), 7]],
  bitAnd_: [() => [int(4), 7]],
  bitOr_: [() => [int(4), int(4)]],
  bitXor: [() => [int(4), 7]],
  bitXor_: [() => [int(4), int(4)]],
  shiftLeft: [() => [int(4), 2]],
  shiftLeft_: [() => [int(4), 2]],
  shiftRight: [() => [int(4), 2]],
  floorDivide: [() => [int(4), fromArray([3], [], "int32")]],
  squareSum: [() => [list(3, 100)]],
  sum: [() => [f(4, 6)]],
  sumDim: [() => [f(4, 6), [0]], () => [of("bfloat16", 4, 6), [-1], true, "float32"]],
  meanDim: [() => [f(4, 6), [-1], true], () => [f(4, 6), [0, 1]]],
  amax: [() => [f(4, 6)], () => [f(4, 6), [1], true]],
  amin: [() => [f(4, 6), [0]]],
  aminmax: [() => [f(4, 6)]],
  isNan: [],
  isInf: [],
  logsumexp: [() => [f(4, 6), [-1]], () => [f(4, 6), [0], true]],
  softmax: [() => [f(4, 6), -1], () => [of("bfloat16", 4, 6), -1, "float32"]],
  topk: [() => [f(4, 6), 2, -1]],
  sortStable: [() => [of("int64", 9), true, 0], () => [f(4, 6), true, -1, true]],
  bincount: [() => [of("int64", 9), null, 5]],
  gt: [() => [f(4, 6), f(6)]],
  lt: [() => [f(4, 6), 1]],
  vectorNorm: [() => [f(4, 6), 2], () => [f(4, 6), 2, [1]]],
  equal: [() => [f(4), f(4)]],
  embedding: [() => [f(4, 6), index()]],
  indexSelect: [() => [f(4, 6), 0, index()], () => [f(4, 6), 1, index()]],
  indexAdd_: [() => [f(4, 6), 0, index(), f(3, 6)]],
  indexCopy_: [() => [f(4, 6), 0, index(), f(3, 6)]],
  gather: [() => [f(4, 6), 1, of("int64", 4, 2)]],
  scatterAdd_: [() => [f(4, 6), 1, of("int64", 4, 2), f(4, 2)]],
  tril: [() => [f(4, 6)]],
  triu: [() => [f(4, 6), 1]],
  view: [() => [f(4, 6), [3, -1]]],
  reshape: [() => [f(4, 6), [24]], () => [turned(), [-1]]],
  viewDtype: [() => [f(4, 6), "int32"], () => [f(4, 6), "uint8"]],
  detach: [() => [f(4, 6)]],
  contiguous: [() => [f(4, 6)], () => [turned()]],
  narrow: [() => [f(4, 6), 1, 2, 3]],
  select: [() => [f(4, 6), -1, 2]],
  unbind: [() => [f(4, 6), 1]],
  transpose: [() => [f(4, 6, 2), 0, -1]],
  expand: [() => [f(4, 1), [-1, 6]], () => [f(6), [4, 6]]],
  unsqueeze: [() => [f(4, 6), -1], () => [f(4, 6), 0]],
  newEmpty: [() => [[4, 6], "bool", null, "cpu"]],
  newZeros: [() => [[4, 6], "bfloat16", null, "cpu"]],
  newFull: [() => [[4, 6], 3, "int16", null, "cpu"]],
  arange: [() => [3, 9, "int64", null, "cpu"]],
  setStorage_: [() => [f(4, 6), f(2, 3)]],
  readItem: [() => [f(1)]],
  toDevice: [() => [f(4, 6), "cpu", "float32"], () => [f(4, 6), "cpu", "bfloat16"]],
  cast: [() => [f(4, 6), "bfloat16"], () => [f(4, 6), "float32"], () => [f(4, 6), "float32", false, true]],
  clone: [() => [turned()]],
  copy_: [() => [f(4, 6), of("bfloat16", 4, 6)]],
  fill_: [() => [f(4), 2]],
  cat: [() => [list(3, 4, 6), 1], () => [list(2, 4)]],
  mm: [() => [f(4, 6), f(6, 5)], () => [f(4, 6), ops.transpose(f(5, 6), 0, 1)]],
  bmm: [() => [f(2, 4, 6), f(2, 6, 5)]],
  baddbmm: [() => [f(2, 4, 5), f(2, 4, 6), f(2, 6, 5), 1, 2]],
  addmm: [() => [f(4, 5), f(4, 6), f(6, 5), 1, 2]],
  mmInto_: [() => [f(4, 6), f(6, 5), f(4, 5)], () => [f(4, 6), ops.narrow(f(6, 9), 1, 0, 5), f(4, 5)]],
  addmm_: [() => [f(4, 5), f(4, 6), f(6, 5), 0, 1], () => [f(4, 5), f(4, 6), ops.transpose(f(5, 6), 0, 1), 1, 1]],
  addmmWide: [],
  outer: [() => [f(4), f(6)]],
  linear: [() => [f(4, 6), f(5, 6)], () => [f(2, 4, 6), f(5, 6)], () => [f(4, 6), f(5, 6), f(5)]],
  solveTriangular: [() => [f(2, 4, 4), f(2, 4, 5), false, true, true]],
  linalgEigh: [() => [f(6, 6)]],
  groupedExperts: [
    () => [...routed(), list(2, 12, 8), list(2, 8, 6), [], [], null, true],
    () => [...routed(), list(2, 12, 8), list(2, 8, 6), [], [], null, false],
    () => {
      const kept = [8, 12, 6, 8].map((columns) => f(18, columns));
      return [...routed(), list(2, 12, 8), list(2, 8, 6), [], kept, null, true];
    },
  ],
  expertPlaces: [() => [fromArray([2, 0, 1, 2], [2, 2], "int64"), 3]],
  takeProducts_: [() => [f(2, 3, 4), ops.cast(f(2, 3, 4), "bfloat16"), countsOf([4, 5]), true]],
  expertGradients_: [() => [list(2, 12, 8), f(9, 12), f(9, 8), countsOf([4, 5]), null, 0, true, true]],
  normRows: [
    () => [f(40, 6), f(6), 1e-6, false, "float32"],
    () => [ops.narrow(f(600, 2, 9), 2, 1, 6), f(6), 1e-6, true, "bfloat16"],
    () => [of("bfloat16", 6), f(6), 1e-6, true, "bfloat16"],
  ],
  turnHeads: [
    () => [f(4, 2, 6), f(4, 6), f(4, 6), false],
    () => [of("bfloat16", 40, 2, 6), of("bfloat16", 40, 4), of("bfloat16", 40, 4), true, 2, f(6), 1e-6, true],
    () => [ops.narrow(of("bfloat16", 4, 2, 9), 2, 1, 6), f(4, 4), f(4, 4), false],
  ],
  gatedProduct: [
    () => [f(4, 6), f(4, 6), "silu"],
    () => [ops.narrow(of("bfloat16", 4, 2, 6), 2, 3, 3), of("bfloat16", 4, 2, 3), "sigmoid"],
  ],
  gatedDelta_: [() => deltaCall("forward")],
  gatedDeltaBackward_: [() => deltaCall("backward")],
  documentAttention: hasDocumentAttention ? [() => headsOf(150, 3), () => headsOf(7, 150, 150)] : [],
  documentAttentionGradient: hasDocumentAttention
    ? [
        () => {
          const [q, k, v, documents] = headsOf(150, 3);
          return [
            ops.transpose(of("bfloat16", 4, 153, 32), 0, 1),
            q,
            k,
            v,
            of("bfloat16", 153, 4, 32),
            f(4, 153),
            documents,
          ];
        },
      ]
    : [],
  flashAttention: [],
  flashForward: [],
  flashBackward: [],
  packedFlashAttention: [],
  packedFlashBackward: [],
  crossEntropy_: [() => [of("bfloat16", 3, 6), index(), of("float64", 3, 2), 1, 0, 0.5]],
  divergence_: [() => [f(3, 6), 1, 0, f(3, 6), 1, 0, of("float64", 3, 2), 4, null]],
  accumulate_: [() => [f(4, 6), of("bfloat16", 4, 6), true]],
  normal_: [() => [f(4), 0, 1]],
  uniform_: [() => [f(4), 0, 1]],
  random_: [() => [int(4), 0, 100]],
  streamAdd_: [
    () => [int(4), int(4), f(4), 2, of("float64", 2)],
    () => [of("int64", 4), null, f(4), 2, of("float64", 2)],
  ],
  streamFloat_: [() => [f(4), int(4), int(4), 0.5], () => [f(4), of("int64", 4), null, 0.5]],
  momentum_: [
    () => [
      int(2, 4),
      int(2, 4),
      of("uint8", 4),
      int(2, 4),
      int(2, 4),
      f(2, 4),
      f(2, 1),
      2,
      -1 / 16,
      4,
      4,
      of("float64", 2),
    ],
  ],
  momentumBack_: [() => [int(2, 4), of("uint8", 4), of("bfloat16", 2, 4), null, 2, -1 / 16, 4, 4, of("float64", 2)]],
  momentumGradient_: [() => [f(2, 4), f(2, 4), f(2, 4), f(2, 1), 0.5]],
  storeWeight_: [() => [of("bfloat16", 24), null, 1, 0, f(24)]],
  adamw_: [() => [f(24), null, 1, 0, ...list(3, 24), 1, 0.9, 0.99, 1e-8, 1, 0.1, 1]],
  adamw8bit_: [() => [f(300), null, 1, 0, ...moment(300), ...moment(300), f(300), 1, 0.9, 0.99, 1e-8, 1, 0.1, 1]],
  move_: [() => [of("bfloat16", 24), of("int8", 24), 1, 0, f(24), 1, 0.1]],
  sgd_: [() => [f(24), null, 1, 0, ...list(2, 24), 1, 0.9, 1, 0.1]],
  lion_: [() => [f(24), null, 1, 0, ...list(2, 24), 1, 0.9, 0.99, 1, 0.1]],
  nesterov_: [() => [...list(2, 24), 1, 0.9]],
  factored_: [() => [f(2, 4, 6), null, 1, 0, f(2, 4), f(2, 6), f(2, 4, 6), 4, 6, 1, 0.5, 0.1, 0, 1, true]],
  factoredVector_: [() => [f(24), null, 1, 0, ...list(2, 24), 1, 0.5, 0.1, 1, true]],
};

const tensorsIn = (value: unknown): Tensor[] =>
  Array.isArray(value) ? value.flatMap(tensorsIn) : typeof value === "number" ? [value as Tensor] : [];
const looks = (t: Tensor | null): string => (t === null ? "none" : `${dtype(t)}[${shape(t)}]`);

/** These return numbers, which a plan takes for 1. */
const NUMBERS = new Set<string>(["readItem", "equal"]);

const operators = ops as unknown as Record<keyof Operators, (...args: unknown[]) => unknown>;

/** What a call leaves: the bytes of its results, and how they look. */
function results(name: keyof Operators, argumentsOf: () => unknown[]): string[] {
  return scope(() => {
    const given = argumentsOf();
    const start = ledger().liveBytes;
    const made = operators[name](...given);
    return [`${ledger().liveBytes - start} bytes`, ...(NUMBERS.has(name) ? [] : tensorsIn(made).map(looks))];
  });
}

/** The same with a graph, and the gradients of all inputs that are floats. */
function gradients(name: keyof Operators, argumentsOf: () => unknown[]): string[] {
  return scope(() => {
    const inputs: Tensor[] = [];
    const asLeaf = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(asLeaf);
      if (!isTensor(value) || !dtype(value).includes("float")) return value;
      inputs.push(leaf(value));
      return inputs.at(-1);
    };
    const given = argumentsOf().map(asLeaf);
    const start = ledger().liveBytes;
    const [made] = tensorsIn(withGrad(() => operators[name](...given)));
    const bytes = ledger().liveBytes - start;
    backward([made], [zeros(shape(made), dtype(made))]);
    return [`${bytes} bytes`, ...inputs.map((input) => looks(takeGrad(input)))];
  });
}

/** Handles are numbers, and so are other arguments: a handle is what has a dtype. */
function isTensor(value: unknown): value is Tensor {
  if (typeof value !== "number") return false;
  try {
    return dtype(value as Tensor) !== undefined;
  } catch {
    return false;
  }
}

/** These have results that no gradient passes, whatever their inputs. */
const CONSTANT = new Set<string>([
  "detach",
  "documentAttention",
  "documentAttentionGradient",
  "squareSum",
  "gt",
  "lt",
  "bincount",
  "viewDtype",
]);

for (const [name, calls] of Object.entries(CALLS) as [keyof Operators, (() => unknown[])[]][]) {
  test(`${name}: rule and operator agree`, { skip: calls.length === 0 && "no plan runs it, or no CPU" }, () => {
    for (const [i, call] of calls.entries()) {
      assert.deepEqual(
        onShadow(() => results(name, call)),
        results(name, call),
        `call ${i}`,
      );
    }
  });

  if (calls.length === 0 || name.endsWith("_") || NUMBERS.has(name) || CONSTANT.has(name)) continue;
  test(`${name}: the gradient's rule and the operator's gradient agree, or a plan of one ends`, () => {
    for (const [i, call] of calls.entries()) {
      if (!scope(() => tensorsIn(call()).some((t) => isTensor(t) && dtype(t).includes("float")))) continue;
      let counted: string[];
      try {
        counted = onShadow(() => gradients(name, call));
      } catch (failure) {
        assert.match((failure as Error).message, /^internal: the rule of aten::.* has no gradient/);
        continue;
      }
      assert.deepEqual(counted, gradients(name, call), `call ${i}`);
    }
  });
}
