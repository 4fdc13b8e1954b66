// The factored second moment of Adafactor (Shazeer & Stern, arXiv 1804.04235, algorithms 4 and 5), as in
// transformers.Adafactor and lomo_optim.AdaLomo. For each matrix, with b_t = 1 - t^-decay:
//   r = b_t r + (1 - b_t) mean over columns of (g^2 + 1e-30);  c the same over rows;  V = r c' / mean(r)
//   u = g / sqrt(V);  u /= max(1, rms(u) / clip);  a = lr, or lr * max(1e-3, rms(w));  w -= a * decay * w;  w -= a u
// State: r and c in float32, 4 bytes per row and column of every matrix, so of every expert; a vector has all of V.
// The reference passes bands of rows and overwrites the gradient; the kernels pass it three times, all matrices at once.
import type { SettingRows, SettingsOf } from "../settings/table.js";
import {
  add_,
  addScalar_,
  div,
  factored_,
  factoredVector_,
  meanDim,
  mul,
  mul_,
  mulScalar_,
  rsqrt,
  square,
  sum,
  sumDim,
  unsqueeze,
} from "../torch/ops.js";
import { repeat } from "../torch/repeat.js";
import { scope } from "../torch/scope.js";
import { device, item, type Tensor, zeros } from "../torch/tensor.js";
import { gradientNorm } from "./clip.js";
import { keptOf, type Optimizer, type ParameterFacts, type Rule, type State, type Update } from "./optimizer.js";
import { band, forBands, type Matrix, matricesIn, range } from "./tiles.js";
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

/** Settings of every optimizer with the factored second moment. */
export const FACTORED_ROWS = {
  update_rms_clip: {
    kind: "number",
    default: 1,
    min: 0,
    about: "adafactor, adalomo: largest root mean square of a matrix's update, before the learning rate; 0: no limit",
  },
  factored_decay_rate: {
    kind: "number",
    default: 0.8,
    above: 0,
    max: 1,
    about: "adafactor, adalomo: exponent r in the second moment's decay rate 1 - step^-r",
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

function factoredRule(settings: FactoredSettings, parameter: ParameterFacts): Rule {
  const { shape, matrices, rows, columns } = parameter;
  const { updateClip, scaleParameter } = settings;
  const isVector = parameter.kind === "vector";
  const keepOf = (step: number): number => 1 - step ** -settings.decayRate;
  return {
    layout: isVector
      ? { variance: { shape, dtype: "float32" } }
      : {
          row: { shape: [matrices, rows], dtype: "float32" },
          column: { shape: [matrices, columns], dtype: "float32" },
        },
    update: (weight, gradient, state, update) =>
      repeat(matricesIn(gradient, parameter), (index) =>
        scope(() => {
          const matrix = { index, rows, columns };
          if (isVector) divideVector(gradient, state.variance, keepOf(update.step));
          else divideMatrix(gradient, state, matrix, keepOf(update.step));
          move(settings, parameter, { weight, direction: gradient }, matrix, update);
        }),
      ),
    kernel: ({ stored }, gradient, { variance, row, column }, { step, learningRate, gradientScale }) => {
      const numbers = [gradientScale, keepOf(step), learningRate] as const;
      if (isVector) factoredVector_(...stored, variance, gradient, ...numbers, updateClip, scaleParameter);
      else {
        const decay = [settings.weightDecay, updateClip, scaleParameter] as const;
        factored_(...stored, row, column, gradient, rows, columns, ...numbers, ...decay);
      }
    },
  };
}

/** x = b x + (1 - b) value. */
const average_ = (x: Tensor, value: Tensor, b: number): Tensor => add_(mulScalar_(x, b), value, 1 - b);
const squaresOf = (g: Tensor): Tensor => addScalar_(square(g), GRADIENT_FLOOR);

/** Updates V with the gradient, then divides the gradient by sqrt(V). */
function divideVector(gradient: Tensor, variance: Tensor, keep: number): void {
  average_(variance, squaresOf(gradient), keep);
  mul_(gradient, rsqrt(variance));
}

/** The same for one matrix of the gradient, with V from r and c. */
function divideMatrix(gradient: Tensor, { row, column }: State, matrix: Matrix, keep: number): void {
  const { index, rows, columns } = matrix;
  const row_N = range(row, index * rows, rows);
  const column_N = range(column, index * columns, columns);
  const sums_N = zeros([columns], "float32", device(gradient));
  forBands(gradient, matrix, (first, count, start) => {
    const squares = squaresOf(band(gradient, start, count, columns));
    average_(range(row_N, first, count), meanDim(squares, [1]), keep);
    add_(sums_N, sumDim(squares, [0]));
  });
  average_(column_N, mulScalar_(sums_N, 1 / rows), keep);
  const rowFactor_N = rsqrt(div(row_N, meanDim(row_N, [0], true)));
  const columnFactor_N = rsqrt(column_N);
  forBands(gradient, matrix, (first, count, start) => {
    const g = band(gradient, start, count, columns);
    mul_(mul_(g, columnFactor_N), unsqueeze(range(rowFactor_N, first, count), 1));
  });
}

function move(
  { updateClip, scaleParameter, weightDecay }: FactoredSettings,
  parameter: ParameterFacts,
  { weight, direction }: { weight: Weight; direction: Tensor },
  matrix: Matrix,
  { step, learningRate }: Update,
): void {
  const size = matrix.rows * matrix.columns;
  const rms = (norm: number): number => norm / Math.sqrt(size);
  const off = rms(gradientNorm([range(direction, matrix.index * size, size)]));
  const clip = updateClip > 0 ? Math.max(1, off / updateClip) : 1;
  const relative = scaleParameter ? Math.max(WEIGHT_FLOOR, rms(weightNorm(weight, direction, matrix))) : 1;
  const rate = learningRate * relative;
  const keep = keptOf(parameter, { step, learningRate: rate }, weightDecay);
  forBands(direction, matrix, (_, count, start) =>
    weight.move(start, range(direction, start, count * matrix.columns), keep, rate / clip),
  );
}

function weightNorm(weight: Weight, like: Tensor, matrix: Matrix): number {
  let squares = 0;
  forBands(like, matrix, (_, count, start) => {
    const w_N = weight.read(start, count * matrix.columns);
    squares += item(sum(mul(w_N, w_N)));
  });
  return Math.sqrt(squares);
}
