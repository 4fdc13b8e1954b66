// Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon; torch.optim.Muon, nesterov): orthogonalised momentum.
//   b = mu b + (1 - mu) g;  d = (1 - mu) g + mu b;  X = d / |d|, with at most as many rows as columns
//   five times: A = X X';  X = 3.4445 X + (-4.7750 A + 2.0315 A A) X
//   w -= lr * decay * w;  w -= lr * 0.2 sqrt(max(rows, columns)) X
// The last factor gives updates the root mean square of AdamW's (Moonlight, arXiv 2502.16982, equation 4), so one
// learning rate serves both. Every matrix of a block has Muon, each expert's by itself, routers too. Embedding, head,
// norms, biases and matrices of one row or column have AdamW (as in Moonlight's code). State: b in float32, 4 bytes per
// element. Workspace: five times one matrix. Products are in `productDtype`; torch's are always in bfloat16.
import { addmm, cast, clamp_, div, lerp_, mm, nesterov_, reshape, sqrt, transpose } from "../torch/ops.js";
import { repeat } from "../torch/repeat.js";
import { free, scope } from "../torch/scope.js";
import { type DType, shape, type Tensor } from "../torch/tensor.js";
import { ADAM_ROWS, adamSettings, type AdamWSettings, adamwRule } from "./adamw.js";
import { squareSumOf } from "./clip.js";
import { defineOptimizer } from "./entry.js";
import { keptOf, type Optimizer, type ParameterFacts, type Rule, type Update } from "./optimizer.js";
import { band, forTiles, matricesIn, range } from "./tiles.js";
import type { Weight } from "./weights/weight.js";

export interface MuonSettings extends AdamWSettings {
  momentum: number;
  productDtype: DType;
}

const COEFFICIENTS = [3.4445, -4.775, 2.0315] as const;
const ITERATIONS = 5;
const SMALLEST_NORM = 1e-7;

export const MUON = defineOptimizer({
  name: "muon",
  stateBytes: "4",
  goodRates: [1e-5, 2e-5],
  rows: {
    ...ADAM_ROWS,
    muon_momentum: {
      kind: "number",
      default: 0.95,
      min: 0,
      below: 1,
      about: "muon: decay rate of the mean of gradients, which is then orthogonalised",
    },
  },
  ignoresGradientSize: true,
  make: (settings, productDtype) => muon({ ...adamSettings(settings), momentum: settings.muon_momentum, productDtype }),
});

export function muon(settings: MuonSettings): Optimizer {
  return {
    name: "muon",
    rule: (parameter) =>
      parameter.kind === "hidden" && Math.min(parameter.rows, parameter.columns) > 1
        ? muonRule(settings, parameter)
        : adamwRule(settings, parameter),
  };
}

function muonRule({ momentum, weightDecay, productDtype }: MuonSettings, parameter: ParameterFacts): Rule {
  const { shape: size, rows, columns } = parameter;
  const scale = 0.2 * Math.sqrt(Math.max(rows, columns));
  const move = (weight: Weight, direction: Tensor, update: Update): void =>
    repeat(matricesIn(direction, { rows, columns }), (index) =>
      scope(() => {
        const start = index * rows * columns;
        const orthogonal = orthogonalize(band(direction, start, rows, columns), productDtype);
        const keep = keptOf(parameter, update, weightDecay);
        weight.move(start, reshape(orthogonal, [-1]), keep, update.learningRate * scale);
      }),
    );
  return {
    layout: { buffer: { shape: size, dtype: "float32" } },
    update: (weight, gradient, { buffer }, update) => {
      forTiles(gradient, (start, count) => {
        const [g_N, b_N] = [range(gradient, start, count), range(buffer, start, count)];
        lerp_(b_N, g_N, 1 - momentum);
        lerp_(g_N, b_N, momentum);
      });
      move(weight, gradient, update);
    },
    kernel: (weight, gradient, { buffer }, update) => {
      nesterov_(buffer, gradient, update.gradientScale, momentum);
      move(weight, gradient, update);
    },
  };
}

/** U S' V' for the singular value decomposition x = U S V', with S' near one: Newton-Schulz on x / |x|, in `dtype`. */
export function orthogonalize(x: Tensor, dtype: DType): Tensor {
  const [a, b, c] = COEFFICIENTS;
  const [rows, columns] = shape(x);
  const norm = clamp_(sqrt(squareSumOf([x])), SMALLEST_NORM, null);
  const turned = rows > columns;
  const start = cast(div(x, norm), dtype);
  let y = turned ? transpose(start, 0, 1) : start;
  for (let i = 0; i < ITERATIONS; i++) {
    const next = scope(() => {
      const gram = mm(y, transpose(y, 0, 1));
      return addmm(y, addmm(gram, gram, gram, b, c), y, a, 1);
    });
    free(y);
    y = next;
  }
  return cast(turned ? transpose(y, 0, 1) : y, "float32");
}
