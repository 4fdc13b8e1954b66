// The experts of a layer (native/experts/grouped_experts.cpp). Weights are cast one at a time. Gradients of weights and
// biases are added to existing tensors; or rows are kept, from which gradients are made later.
import { castTo, contiguous } from "../shadow/arithmetic.js";
import { record } from "../shadow/gradients.js";
import { drop, hold, make, type Value } from "../shadow/values.js";
import {
  activateByReference,
  addBiases,
  addOne,
  addRows,
  addTogether,
  backByReference,
  byRow,
  castPlaces,
  multiplyRows,
  spansOf,
  sumOfColumns,
  together,
  withCast,
} from "./expert-memory.js";
import { type N, op, type T } from "./row.js";
import { matrix, sharedEvenly } from "./rules.js";

/** Activations between the two products: rows of native/experts/expert_activation.hpp, which has the equations. */
export const EXPERT_ACTIVATIONS = ["silu", "gelu_tanh", "clamped_swiglu", "relu_squared"] as const;
export type ExpertActivation = (typeof EXPERT_ACTIVATIONS)[number];

/** Number of rows of each expert. */
const elementsOf = ({ storage, count }: Value): readonly number[] => storage.elements ?? new Array(count).fill(0);

interface Call {
  x: Value;
  gates: Value;
  rows: readonly number[];
  gateUp: readonly Value[];
  down: readonly Value[];
  biases: readonly Value[];
  kept: readonly Value[];
  fused: boolean;
  activation: ExpertActivation;
  interleaved: boolean;
}

/** One row of x for each choice, with `columns` columns. */
const rowsOf = ({ x, gates }: Call, columns: number): Value => matrix(gates.count, columns, x);

const halves = (biases: readonly Value[]): [first: readonly Value[], second: readonly Value[]] => [
  biases.slice(0, biases.length / 2),
  biases.slice(biases.length / 2),
];

/** The first products and the result. */
function forward(call: Call): { both: Value; y: Value } {
  const { x, gates, rows, gateUp, down, biases, kept, fused, activation } = call;
  const weights = [...gateUp, ...down];
  const [[columns], [width, inner]] = [gateUp[0].sizes, down[0].sizes];
  const [first, second] = halves(biases);
  const joint = together(x, weights);
  const keeps = kept.length > 0;
  const spans = spansOf(x, rows);
  let wide = keeps ? null : rowsOf(call, width);
  const products = withCast(x, gateUp, () => (keeps && !joint ? hold(kept[1]) : rowsOf(call, columns)));
  const casts = joint ? null : castPlaces(x, weights, rows);
  multiplyRows(x, spans, columns);
  const both = keeps ? hold(kept[1]) : products;
  if (keeps) drop(products);
  if (joint) wide = dropped(wide);
  addBiases(x, first, rows);
  if (!fused) activateByReference(activation, inner, gates, x);
  const innerRows = rowsOf(call, inner);
  wide ??= withCast(x, down, () => rowsOf(call, width));
  multiplyRows(x, spans, width);
  if (second.length > 0) {
    const column = byRow(gates, x);
    addBiases(x, second, rows);
    drop(column);
  }
  const y = sums(call, width);
  for (const each of [innerRows, wide, casts]) drop(each);
  return { both, y };
}

/** Adds up the rows of each token. */
function sums(call: Call, width: number): Value {
  const chosen = call.fused ? null : rowsOf(call, width);
  const y = make(call.x.sizes, call.x.dtype, call.x.device);
  drop(chosen);
  return y;
}

const dropped = (value: Value | null): null => {
  drop(value);
  return null;
};

function groupedRule(
  x: Value,
  gates: Value,
  places: Value,
  counts: Value,
  known: Value | null,
  gateUp: readonly Value[],
  down: readonly Value[],
  biases: readonly Value[],
  kept: readonly Value[],
  written: Value | null,
  fused: boolean,
  activation: ExpertActivation = "silu",
  interleaved = false,
): Value {
  const rows = elementsOf(counts);
  const call = { x, gates, rows, gateUp, down, biases, kept, fused, activation, interleaved };
  const { both, y } = forward(call);
  const trained = [...gateUp, ...down, ...biases];
  const inputs = [x, gates, ...trained];
  const saved = [x, gates, places, counts, known, both, ...gateUp, ...down, ...biases, ...kept, written];
  const result = record(y, inputs, saved, (dy, [toX, , ...to]) => backwardOf(call, dy, toX, trained, to));
  drop(both);
  return result;
}

function backwardOf(
  call: Call,
  dy: Value,
  toX: boolean,
  trained: readonly Value[],
  to: readonly boolean[],
): (Value | null)[] {
  const { x, gates, rows, gateUp, down, biases, kept, fused, activation } = call;
  const weights = [...gateUp, ...down];
  const [width, inner] = down[0].sizes;
  const experts = rows.length;
  const spans = spansOf(x, rows);
  const joint = together(x, weights);
  const keeps = kept.length > 0;
  const has = (i: number): boolean => to[i] && rows[i % experts] > 0 && !(keeps && i < 2 * experts);
  const made = trained.map((weight, i) =>
    has(i) && weight.grad === null ? make(weight.sizes, weight.dtype, weight.device) : null,
  );
  const buffers = trained.map((weight, i) => (has(i) ? (made[i] ?? weight.grad) : null));
  const grouped = joint && made.slice(0, 2 * experts).every((each) => each === null);
  const addProducts = (first: number): void => {
    const sums = buffers.slice(first, first + experts);
    const some = sums.filter((sum) => sum !== null);
    if (grouped) return void (some.length > 0 && addTogether(some, x));
    for (const [i, sum] of sums.entries()) if (sum !== null) addOne(sum, x, spans[i], made[first + i] === null);
  };

  let wide = keeps ? null : rowsOf(call, width);
  drop(contiguous(dy));
  const dInner = keeps && !joint ? null : withCast(x, down, () => rowsOf(call, inner));
  const casts = joint ? null : castPlaces(x, weights, rows);
  multiplyRows(x, spans, inner);
  if (keeps) drop(dInner);
  const dGates = fused ? make(gates.sizes, gates.dtype, gates.device) : backByReference(activation, inner, gates, x);
  if (biases.length > 0) {
    const [dByRow, column] = [make([gates.count], gates.dtype, gates.device), byRow(gates, x)];
    for (const [i, count] of rows.entries()) {
      if (count === 0) continue;
      const bias = castTo(biases[experts + i], x.dtype);
      const product = matrix(count, width, x);
      drop(sumOfColumns(product, gates.dtype));
      drop(product);
      for (const part of [3, 2]) {
        const sum = buffers[part * experts + i];
        const scaled = part === 3 ? matrix(count, width, x) : null;
        if (sum !== null) addRows(sum, x, made[part * experts + i] === null);
        drop(scaled);
      }
      drop(bias);
    }
    drop(make(gates.sizes, gates.dtype, gates.device));
    for (const each of [dByRow, column]) drop(each);
  }
  if (!keeps) {
    addProducts(experts);
    drop(dInner);
    addProducts(0);
  }
  if (joint) wide = dropped(wide);
  let dx: Value | null = null;
  if (toX) {
    wide ??= withCast(x, gateUp, () => rowsOf(call, width));
    multiplyRows(x, spans, width);
    dx = sums(call, width);
  }
  for (const each of [wide, casts]) drop(each);
  return [dx, dGates, ...made];
}

/**
 * y_t = sum_a g_ta (act(x_t We' + be) Vd' + bd) over a token's choices. Rows are sorted by expert: `places` has each
 * choice's row, `counts` each expert's number of rows (`expertPlaces`), and `known` the same in main memory; without
 * `known`, the backward pass waits for a GPU. `gateUp` is [2F, D], gate rows before up rows or, if `interleaved`,
 * alternating ([F, D] without a gate); `down` is [D, F]; all in any dtype, cast one at a time. `biases` are none, or
 * those [2F] of every expert and then those [D] of every expert. Gradients of weights and biases are added to existing
 * tensors. Each of these four parts has a byte in `written`: if it is 0, the gradient overwrites the tensor and the
 * byte becomes 1. With `kept`, weights get no gradient; four tensors of rows keep its factors: rows of x [R, D], the
 * gradient of the first products [R, 2F] (or [R, F]), act times gate [R, F], and dy [R, D]. `fused` means by kernels,
 * which take float32 gates and know float32 and bfloat16. `limit` and `alpha` belong to clamped_swiglu.
 */
export const groupedExperts = op<
  (
    x: T,
    gates: T,
    places: T,
    counts: T,
    known: T | null,
    gateUp: T[],
    down: T[],
    biases: T[],
    kept: T[],
    written: T | null,
    fused: boolean,
    activation?: ExpertActivation,
    interleaved?: boolean,
    limit?: N,
    alpha?: N,
  ) => T
>(
  'revmoe::grouped_experts(Tensor x, Tensor gates, Tensor places, Tensor counts, Tensor? known, Tensor[] gate_up, Tensor[] down, Tensor[] biases, Tensor[] kept, Tensor? written, bool fused, str activation="silu", bool interleaved=False, float limit=7., float alpha=1.702) -> Tensor',
  groupedRule,
);
/** The row of every choice when rows are sorted by expert and then by token, and the number of rows of each expert. */
export const expertPlaces = op<(expertsOf: T, experts: N) => [places: T, counts: T]>(
  "revmoe::expert_places(Tensor experts_of, int experts) -> (Tensor, Tensor)",
  (expertsOf, experts) => {
    const places = make(expertsOf.sizes, "int64", expertsOf.device);
    const counts = sharedEvenly(expertsOf, experts);
    drop(make([Math.ceil(expertsOf.count / 256), experts], "int64", expertsOf.device));
    return [places, counts];
  },
);
/**
 * sums_e (float32) = made_e (bfloat16), or with `add` += it, for each expert with rows; the products of an expert
 * without rows count as zeros. Both are [E, ., .].
 */
export const takeProducts_ = op<(sums: T, made: T, counts: T, add: boolean) => void>(
  "revmoe::take_products_(Tensor(a!) sums, Tensor made, Tensor counts, bool add) -> ()",
  () => {},
);
/**
 * sums[i] = dy_e' x_e, or with `add` += it, for the experts e from `first` on; the rows are those of all experts,
 * sorted.
 */
export const expertGradients_ = op<
  (sums: T[], dy: T, x: T, counts: T, known: T | null, first: N, add: boolean, fused: boolean) => void
>(
  "revmoe::expert_gradients_(Tensor(a!)[] sums, Tensor dy, Tensor x, Tensor counts, Tensor? known, int first, bool add, bool fused) -> ()",
  (sums, _dy, x, counts, _known, first, add) => {
    const rows = elementsOf(counts);
    if (together(x, [x]) && sums[0].sizes.every((size) => size % 8 === 0)) {
      addTogether(sums, x);
      return;
    }
    const spans = spansOf(x, rows);
    for (const [i, sum] of sums.entries()) if (rows[first + i] > 0) addOne(sum, x, spans[first + i], add);
  },
);
