// The factored second moment of Adafactor (Shazeer & Stern, arXiv 1804.04235, algorithms 4 and 5), as transformers.Adafactor
// and lomo_optim.AdaLomo compute it, on which both optimisers here are built. For each matrix, with b_t = 1 - t^-decay:
//   r = b_t r + (1 - b_t) mean over columns of (g^2 + 1e-30);  c the same over rows;  V = r c' / mean(r)
//   u = g / sqrt(V);  u /= max(1, rms(u) / clip);  a = lr, or lr * max(1e-3, rms(w));  w -= a * decay * w;  w -= a u
// State: r and c in float32, 4 bytes per row and column of every matrix, so of every expert; a vector has all of V.
// Works through bands of rows, or where that saves a GPU calls through several matrices at once; the gradient is overwritten.
import type { SettingRows, SettingsOf } from "../settings/table.js";
import {
  add_,
  addcmul_,
  addScalar,
  addScalar_,
  clamp_,
  div,
  factoredSquares_,
  meanDim,
  mul,
  mul_,
  mulScalar,
  mulScalar_,
  rsqrt,
  scaleMatrix_,
  square,
  sum,
  sumDim,
  unsqueeze,
  vectorNorm,
  view,
} from "../torch/ops.js";
import { forEachTile } from "../torch/repeat.js";
import { scope } from "../torch/scope.js";
import { device, empty, full, item, type Tensor, zeros } from "../torch/tensor.js";
import { gradientNorm } from "./clip.js";
import type { Optimizer, ParameterFacts, Rule, State, Update } from "./optimizer.js";
import { inOnePass } from "./passes.js";
import { band, forBands, type Matrix, matricesIn, range, tileElements } from "./tiles.js";
import type { Weight } from "./weights/weight.js";

export interface FactoredSettings {
  /** Exponent of the step in the decay of the second moment. */
  decayRate: number;
  /** Largest root mean square of an update before the learning rate; 0: no limit. */
  updateClip: number;
  /** Whether the learning rate is relative to the root mean square of the weights. */
  scaleParameter: boolean;
  weightDecay: number;
}

/** For every optimizer with the factored second moment. */
export const FACTORED_ROWS = {
  update_rms_clip: {
    kind: "number",
    default: 1,
    min: 0,
    about: "adafactor, adalomo: largest root mean square of a matrix's update before the learning rate; 0: off",
  },
  factored_decay_rate: {
    kind: "number",
    default: 0.8,
    above: 0,
    max: 1,
    about: "adafactor, adalomo: exponent r of the second moment's decay 1 - step^-r",
  },
} as const satisfies SettingRows;

export const factoredSettings = (
  settings: SettingsOf<typeof FACTORED_ROWS> & { weight_decay: number },
): Omit<FactoredSettings, "scaleParameter"> => ({
  decayRate: settings.factored_decay_rate,
  updateClip: settings.update_rms_clip,
  weightDecay: settings.weight_decay,
});

const GRADIENT_FLOOR = 1e-30;
const WEIGHT_FLOOR = 1e-3;

export function factored(name: string, settings: FactoredSettings): Optimizer {
  return { name, rule: (parameter) => factoredRule(settings, parameter) };
}

function factoredRule(settings: FactoredSettings, { kind, shape, matrices, rows, columns }: ParameterFacts): Rule {
  const isVector = kind === "vector";
  const own = { ...settings, weightDecay: isVector ? 0 : settings.weightDecay };
  return {
    layout: isVector
      ? { variance: { shape, dtype: "float32" } }
      : {
          row: { shape: [matrices, rows], dtype: "float32" },
          column: { shape: [matrices, columns], dtype: "float32" },
        },
    update: (weight, gradient, state, update) => {
      const keep = 1 - update.step ** -settings.decayRate;
      const count = matricesIn(gradient, { rows, columns });
      const together = isVector || inOnePass(gradient) ? 0 : Math.floor(tileElements(gradient) / (rows * columns));
      forEachTile(count, Math.max(1, together), (index, some) => {
        const matrix = { index, rows, columns };
        if (together > 0) {
          scope(() => updateTogether(own, { weight, gradient, state }, { ...matrix, count: some }, keep, update));
        } else {
          const norm = scope(() =>
            isVector ? divideVector(gradient, state.variance, keep) : divideMatrix(gradient, state, matrix, keep),
          );
          apply(own, { weight, gradient, norm }, matrix, update);
        }
      });
    },
  };
}

/** x = b x + (1 - b) new. */
const average_ = (x: Tensor, value: Tensor, b: number): Tensor => add_(mulScalar_(x, b), value, 1 - b);

/** The whole update of `count` matrices side by side, each by itself, in few calls that wait for nothing: for a GPU. */
function updateTogether(
  { updateClip, scaleParameter, weightDecay }: FactoredSettings,
  { weight, gradient, state }: { weight: Weight; gradient: Tensor; state: State },
  { index, rows, columns, count }: Matrix & { count: number },
  keep: number,
  { learningRate }: Update,
): void {
  const each = rows * columns;
  const matricesOf = (t_N: Tensor): Tensor => view(t_N, [count, rows, columns]);
  const perMatrix = (t_N: Tensor): Tensor => view(t_N, [count, 1, 1]);
  const meanSquares = (t: Tensor, dim: number, size: number): Tensor =>
    addScalar_(mulScalar_(square(vectorNorm(t, 2, [dim])), 1 / size), GRADIENT_FLOOR);
  const g = matricesOf(range(gradient, index * each, count * each));
  const row_NR = view(range(state.row, index * rows, count * rows), [count, rows]);
  const column_NC = view(range(state.column, index * columns, count * columns), [count, columns]);
  average_(row_NR, meanSquares(g, 2, columns), keep);
  average_(column_NC, meanSquares(g, 1, rows), keep);
  const rowFactor_NR = rsqrt(div(row_NR, meanDim(row_NR, [1], true)));
  mul_(g, unsqueeze(rsqrt(column_NC), 1));
  // |u|^2 = sum over rows of (rowFactor |row of g|)^2: u itself is nowhere.
  const rms_N = mulScalar_(vectorNorm(mul(vectorNorm(g, 2, [2]), rowFactor_NR), 2, [1]), 1 / Math.sqrt(each));
  weight.edit(index * each, count * each, (w_N) => {
    const w = matricesOf(w_N);
    const rate_N = scaleParameter
      ? mulScalar_(clamp_(mulScalar_(vectorNorm(w, 2, [1, 2]), 1 / Math.sqrt(each)), WEIGHT_FLOOR, null), learningRate)
      : full([count], learningRate, "float32", device(gradient));
    const clipped_N = updateClip > 0 ? div(rate_N, clamp_(mulScalar_(rms_N, 1 / updateClip), 1, null)) : rate_N;
    if (weightDecay > 0) mul_(w, addScalar_(mulScalar(perMatrix(rate_N), -weightDecay), 1));
    addcmul_(w, g, unsqueeze(mul(rowFactor_NR, view(clipped_N, [count, 1])), 2), -1);
  });
}

/** Updates V with the gradient, divides it by sqrt(V), and returns its norm. */
function divideVector(gradient: Tensor, variance: Tensor, keep: number): number {
  average_(variance, addScalar_(square(gradient), GRADIENT_FLOOR), keep);
  mul_(gradient, rsqrt(variance));
  return gradientNorm([gradient]);
}

/** The same of one matrix of the gradient, by r and c. */
function divideMatrix(gradient: Tensor, { row, column }: State, matrix: Matrix, keep: number): number {
  const { index, rows, columns } = matrix;
  const row_N = range(row, index * rows, rows);
  const column_N = range(column, index * columns, columns);
  if (inOnePass(gradient)) {
    const G = band(gradient, index * rows * columns, rows, columns);
    const [means_N, sums_N] = [empty([rows], "float32"), empty([columns], "float32")];
    factoredSquares_(means_N, sums_N, G, GRADIENT_FLOOR);
    average_(row_N, means_N, keep);
    average_(column_N, mulScalar(sums_N, 1 / rows), keep);
    return Math.sqrt(scaleMatrix_(G, rsqrt(div(row_N, meanDim(row_N, [0], true))), rsqrt(column_N)));
  }
  const sums_N = zeros([columns], "float32", device(gradient));
  forBands(gradient, matrix, (first, count, start) => {
    const squares = addScalar(square(band(gradient, start, count, columns)), GRADIENT_FLOOR);
    average_(range(row_N, first, count), meanDim(squares, [1]), keep);
    add_(sums_N, sumDim(squares, [0]));
  });
  average_(column_N, mulScalar(sums_N, 1 / rows), keep);
  const rowFactor_N = rsqrt(div(row_N, meanDim(row_N, [0], true)));
  const columnFactor_N = rsqrt(column_N);
  forBands(gradient, matrix, (first, count, start) => {
    const g = band(gradient, start, count, columns);
    mul_(mul_(g, columnFactor_N), unsqueeze(range(rowFactor_N, first, count), 1));
  });
  return gradientNorm([range(gradient, index * rows * columns, rows * columns)]);
}

interface Divided {
  weight: Weight;
  gradient: Tensor;
  /** Of the matrix of the gradient. */
  norm: number;
}

function apply(
  settings: FactoredSettings,
  { weight, gradient, norm }: Divided,
  matrix: Matrix,
  { learningRate }: Update,
): void {
  const { updateClip, scaleParameter, weightDecay } = settings;
  const { rows, columns } = matrix;
  const root = Math.sqrt(rows * columns);
  const rms = norm / root;
  const rate = scaleParameter
    ? learningRate * Math.max(WEIGHT_FLOOR, weightNorm(weight, gradient, matrix) / root)
    : learningRate;
  const clip = updateClip > 0 ? Math.max(1, rms / updateClip) : 1;
  forBands(gradient, matrix, (_, count, start) =>
    weight.edit(start, count * columns, (w_N) => {
      if (weightDecay > 0) mulScalar_(w_N, 1 - rate * weightDecay);
      add_(w_N, range(gradient, start, count * columns), -rate / clip);
    }),
  );
}

function weightNorm(weight: Weight, gradient: Tensor, matrix: Matrix): number {
  let squares = 0;
  forBands(gradient, matrix, (_, count, start) => {
    const w_N = weight.read(start, count * matrix.columns);
    squares += item(sum(mul(w_N, w_N)));
  });
  return Math.sqrt(squares);
}
