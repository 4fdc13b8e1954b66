// The experts of a layer (native/experts/grouped_experts.cpp), on rows sorted by expert. Weights are cast one at a time, gradients of weights and biases
// are added to those that are there, or rows are kept for gradients that are made later.
import { contiguous } from "../shadow/arithmetic.js";
import { record, records } from "../shadow/gradients.js";
import { realEngine } from "../shadow/real-engine.js";
import { drop, make, type Value } from "../shadow/values.js";
import {
  addBiases,
  addOne,
  addRows,
  addTogether,
  castPlaces,
  multiplyRows,
  spansOf,
  together,
  withCast,
} from "./expert-memory.js";
import { type N, op, type T } from "./row.js";
import { matrix } from "./rules.js";

/** What is computed between the two products: rows of native/experts/expert_activation.hpp, which has the equations. */
export const EXPERT_ACTIVATIONS = ["silu", "gelu_tanh", "clamped_swiglu", "relu_squared"] as const;
export type ExpertActivation = (typeof EXPERT_ACTIVATIONS)[number];

/** An expert's inner width, and what the activation takes beside its result. */
function activationOf(name: ExpertActivation, interleaved: boolean, down: readonly Value[]) {
  const width = down[0].sizes[1];
  const { gated } = realEngine().experts.activations.find((each) => each.name === name) as { gated: boolean };
  const clamped = name === "clamped_swiglu";
  return {
    width,
    columns: gated ? 2 * width : width,
    /** Without a graph, the inner product takes the place of the gate, which has to lie in whole rows and not to be clamped. */
    inPlace: !interleaved && !clamped,
    forward: (x: Value): void => {
      if (clamped) drop(matrix(x.sizes[0], width, x));
    },
    gradient: (x: Value): void => {
      if (clamped) drop(make([x.sizes[0], width], "bool", x.device));
    },
  };
}

function groupedRule(
  x: Value,
  gateUp: readonly Value[],
  down: readonly Value[],
  rows: readonly number[],
  biases: readonly Value[],
  name: ExpertActivation = "silu",
  interleaved = false,
): Value {
  const activation = activationOf(name, interleaved, down);
  const { width, columns } = activation;
  const experts = rows.length;
  const weights = [...gateUp, ...down];
  const inputs = [x, ...weights, ...biases];
  const graph = records(inputs);
  const casts = castPlaces(x, weights, rows);
  const spans = spansOf(x, rows);
  const both = withCast(x, gateUp, () => matrix(x.sizes[0], columns, x));
  multiplyRows(x, spans, columns);
  addBiases(x, biases.slice(0, experts), rows);
  const inner = graph || !activation.inPlace ? matrix(x.sizes[0], width, x) : null;
  if (inner !== null) activation.forward(x);
  const y = withCast(x, down, () => matrix(x.sizes[0], down[0].sizes[0], x));
  multiplyRows(x, spans, down[0].sizes[0]);
  addBiases(x, biases.slice(experts), rows);
  for (const each of [inner, casts]) drop(each);
  const result = record(y, inputs, [x, both, ...weights, ...biases], (dy, [toX, ...toOthers]) => {
    const dense = contiguous(dy);
    const trained = [...weights, ...biases];
    const has = (i: number): boolean => toOthers[i] && rows[i % experts] > 0;
    const made = trained.map((weight, i) =>
      has(i) && weight.grad === null ? make(weight.sizes, weight.dtype, weight.device) : null,
    );
    const buffers = trained.map((weight, i) => (has(i) ? (made[i] ?? weight.grad) : null));
    const ofOtherType = (buffer: Value | null): boolean => buffer !== null && buffer.dtype !== x.dtype;
    const places = castPlaces(x, weights, rows, buffers.slice(0, 2 * experts).some(ofOtherType));
    const grouped = together(x, weights) && made.slice(0, 2 * experts).every((each) => each === null);
    const addAlone = (first: number): void => {
      const sums = buffers.slice(first, first + experts).filter((buffer) => buffer !== null);
      if (grouped) return void (sums.length > 0 && addTogether(sums, x));
      for (const [i, buffer] of buffers.slice(first, first + experts).entries()) {
        if (buffer !== null) addOne(buffer, x, spans[i], made[first + i] === null);
      }
    };
    const addToBiases = (first: number): void => {
      for (const [i, buffer] of buffers.slice(first, first + experts).entries()) {
        if (buffer !== null) addRows(buffer, x, made[first + i] === null);
      }
    };
    const [ofGate, product] = [matrix(x.sizes[0], width, x), matrix(x.sizes[0], width, x)];
    addToBiases(3 * experts);
    addAlone(experts);
    const dInner = together(x, weights) ? withCast(x, down, () => matrix(x.sizes[0], width, x)) : null;
    multiplyRows(x, spans, width);
    activation.gradient(x);
    addToBiases(2 * experts);
    const before = together(x, weights) ? null : toX ? matrix(x.sizes[0], x.sizes[1], x) : null;
    addAlone(0);
    if (toX) multiplyRows(x, spans, x.sizes[1]);
    const dx = before ?? (toX ? withCast(x, gateUp, () => matrix(x.sizes[0], x.sizes[1], x)) : null);
    for (const each of [ofGate, product, dInner, places, dense]) drop(each);
    return [dx, ...made];
  });
  drop(both);
  return result;
}

/** With room for what is kept: no product or gradient of a weight is made. */
function keepRule(
  x: Value,
  gateUp: readonly Value[],
  down: readonly Value[],
  rows: readonly number[],
  kept: readonly Value[],
  biases: readonly Value[],
  name: ExpertActivation = "silu",
  interleaved = false,
): Value {
  const activation = activationOf(name, interleaved, down);
  const { width, columns } = activation;
  const weights = [...gateUp, ...down];
  const casts = castPlaces(x, weights, rows);
  if (together(x, weights)) drop(withCast(x, gateUp, () => matrix(x.sizes[0], columns, x)));
  const spans = spansOf(x, rows);
  multiplyRows(x, spans, columns);
  addBiases(x, biases.slice(0, rows.length), rows);
  const inner = matrix(x.sizes[0], width, x);
  activation.forward(x);
  const y = withCast(x, down, () => matrix(x.sizes[0], down[0].sizes[0], x));
  multiplyRows(x, spans, down[0].sizes[0]);
  addBiases(x, biases.slice(rows.length), rows);
  for (const each of [inner, casts]) drop(each);
  return record(y, [x], [x, ...kept, ...weights, ...biases], (dy) => {
    const made = [
      contiguous(dy),
      castPlaces(x, weights, rows),
      matrix(x.sizes[0], width, x),
      matrix(x.sizes[0], width, x),
    ];
    multiplyRows(x, spans, width);
    activation.gradient(x);
    const dx = matrix(x.sizes[0], x.sizes[1], x);
    multiplyRows(x, spans, x.sizes[1]);
    for (const each of made) drop(each);
    return [dx];
  });
}

/**
 * y_RD = act(x Wg' + bg) Wd' + bd of rows sorted by expert, with the number of rows of each. `gateUp` is [2F, D], gate rows before up rows or in
 * turn where `interleaved` ([F, D] without a gate); `down` is [D, F]; all in any dtype, cast one at a time. `biases` are none, or bg [2F] of
 * every expert and then bd [D] of every expert. `limit` and `alpha` belong to clamped_swiglu.
 */
export const groupedExperts = op<
  (
    x: T,
    gateUp: T[],
    down: T[],
    rows: N[],
    biases: T[],
    activation?: ExpertActivation,
    interleaved?: boolean,
    limit?: N,
    alpha?: N,
  ) => T
>(
  'revmoe::grouped_experts(Tensor x, Tensor[] gate_up, Tensor[] down, int[] rows, Tensor[] biases, str activation="silu", bool interleaved=False, float limit=7., float alpha=1.702) -> Tensor',
  groupedRule,
);
/**
 * The same, whose backward pass makes no gradients of weights and biases and leaves in `kept` what they are made of: rows of the gradient of
 * the first products [R, 2F] (or [R, F]), of act [R, F], and dy [R, D].
 */
export const groupedExpertsKeep = op<
  (
    x: T,
    gateUp: T[],
    down: T[],
    rows: N[],
    kept: T[],
    biases: T[],
    activation?: ExpertActivation,
    interleaved?: boolean,
    limit?: N,
    alpha?: N,
  ) => T
>(
  'revmoe::grouped_experts_keep(Tensor x, Tensor[] gate_up, Tensor[] down, int[] rows, Tensor[] kept, Tensor[] biases, str activation="silu", bool interleaved=False, float limit=7., float alpha=1.702) -> Tensor',
  keepRule,
);
/** sums[i] = dy_e' x_e, or with `add` += of it, of the experts e from `first` on; rows are sorted by all experts. */
export const expertGradients_ = op<(sums: T[], dy: T, x: T, rows: N[], first: N, add: boolean) => void>(
  "revmoe::expert_gradients_(Tensor(a!)[] sums, Tensor dy, Tensor x, int[] rows, int first, bool add) -> ()",
  (sums, _dy, x, rows, first, add) => {
    if (together(x, [x]) && sums[0].sizes.every((size) => size % 8 === 0)) {
      addTogether(sums, x);
      return;
    }
    const spans = spansOf(x, rows);
    for (const [i, sum] of sums.entries()) if (rows[first + i] > 0) addOne(sum, x, spans[first + i], add);
  },
);
/** sums[i] = the sum of the rows of dy_e, or with `add` += of it, likewise. */
export const expertBiasGradients_ = op<(sums: T[], dy: T, rows: N[], first: N, add: boolean) => void>(
  "revmoe::expert_bias_gradients_(Tensor(a!)[] sums, Tensor dy, int[] rows, int first, bool add) -> ()",
  (sums, dy, rows, first, add) => {
    for (const [i, sum] of sums.entries()) if (rows[first + i] > 0) addRows(sum, dy, add);
  },
);
