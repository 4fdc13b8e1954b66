// GaLore with AdamW (Zhao et al., arXiv 2403.03507, algorithm 2; galore_torch.GaLoreAdamW, projection "std"): the
// moments live in the r leading singular directions of the gradient's shorter side, found anew every `updateGap` steps.
//   rows >= columns: G = U S V', P = V_r, R = G P;  else P = U_r, R = P' G;  N = AdamW's direction of R
//   w -= lr * decay * w;  w -= lr * scale * (N P'  or  P N)
// P comes from eigenvectors of G'G (or GG'), in a third of the time of decomposing G. As published, the moments stay
// when P changes, so signs matter. The paper leaves signs to LAPACK; here a new direction points to the side of the one
// that it replaces. State: 4 bytes x r x (2 longer + shorter side) per matrix, so per expert. Matrices of the blocks
// whose shorter side exceeds r are projected; all else has AdamW. An expert that no token reached when P is due keeps
// its P, or gets one with its first gradient (galore_torch takes an arbitrary one). Decay comes first, as in AdamW.
import {
  abs,
  addScalar_,
  amax,
  cast,
  copy_,
  div,
  linalgEigh,
  lt,
  mm,
  mul,
  mulScalar_,
  narrow,
  sumDim,
  transpose,
  view,
} from "../torch/ops.js";
import { repeat } from "../torch/repeat.js";
import { scope } from "../torch/scope.js";
import { shape, type Tensor, toArray } from "../torch/tensor.js";
import { ADAM_ROWS, adamSettings, type AdamWSettings, adamwRule, updateMoments } from "./adamw.js";
import { gradientNorm } from "./clip.js";
import { defineOptimizer } from "./entry.js";
import { keptOf, type Optimizer, type ParameterFacts, type Rule, type ScaledUpdate, type State } from "./optimizer.js";
import { band, forBands, matricesIn } from "./tiles.js";
import type { Weight } from "./weights/weight.js";

export interface GaloreSettings extends AdamWSettings {
  rank: number;
  /** Steps between new projections. */
  updateGap: number;
  /** Factor on the update. */
  scale: number;
}

export const GALORE_ADAMW = defineOptimizer({
  name: "galore_adamw",
  stateBytes: "by galore_rank",
  goodRates: [4e-5, 1e-4],
  rows: {
    ...ADAM_ROWS,
    galore_update_gap: {
      kind: "integer",
      default: 200,
      min: 1,
      about: "galore_adamw: steps between new directions, which take an eigenvalue decomposition of each matrix",
    },
    galore_scale: {
      kind: "number",
      default: 0.25,
      above: 0,
      about: "galore_adamw: factor on the updates of projected matrices",
    },
  },
  memoryRows: {
    galore_rank: {
      kind: "integer",
      default: 128,
      min: 1,
      about:
        "galore_adamw: rank, in how many directions a matrix moves at a time; matrices whose shorter side is at most this use adamw",
    },
  },
  make: (settings) =>
    galoreAdamw({
      ...adamSettings(settings),
      rank: settings.galore_rank,
      updateGap: settings.galore_update_gap,
      scale: settings.galore_scale,
    }),
  check: ({ galore_rank: rank }, { name, parameters }) => {
    const hidden = parameters.filter(({ kind }) => kind === "hidden");
    const widest = Math.max(...hidden.map(({ rows, columns }) => Math.min(rows, columns)));
    if (rank < widest) return undefined;
    return (
      `galore_rank: ${rank} leaves no matrix of ${name} to project (expected less than ${widest}, the longest shorter side). ` +
      "Set a smaller rank, or optimizer to adamw."
    );
  },
});

export function galoreAdamw(settings: GaloreSettings): Optimizer {
  return {
    name: "galore_adamw",
    rule: (parameter) =>
      parameter.kind === "hidden" && Math.min(parameter.rows, parameter.columns) > settings.rank
        ? galoreRule(settings, parameter)
        : adamwRule(settings, parameter),
  };
}

function galoreRule(settings: GaloreSettings, parameter: ParameterFacts): Rule {
  const { matrices, rows, columns } = parameter;
  const { rank, updateGap, scale, beta1, weightDecay } = settings;
  const tall = rows >= columns;
  const short = Math.min(rows, columns);
  const low = tall ? [rows, rank] : [rank, columns];
  const moment = { shape: [matrices, ...low], dtype: "float32" } as const;
  const one = (t: Tensor, index: number, [height, width]: number[]): Tensor =>
    band(t, index * height * width, height, width);
  const project = (weight: Weight, gradient: Tensor, { projection, m, v }: State, update: ScaledUpdate): void => {
    const { step, learningRate, gradientScale } = update;
    const due = (step - 1) % updateGap === 0;
    const count = matricesIn(gradient, { rows, columns });
    const largest = scope(() => toArray(amax(abs(view(projection, [count, -1])), [1])));
    repeat(count, (index) =>
      scope(() => {
        const G = one(gradient, index, [rows, columns]);
        const P = one(projection, index, [short, rank]);
        if ((due || largest[index] === 0) && gradientNorm([G]) > 0) copy_(P, alike(leadingDirections(G, rank), P));
        const R = tall ? mm(G, P) : mm(transpose(P, 0, 1), G);
        if (gradientScale !== 1) mulScalar_(R, gradientScale);
        const moments = { m: one(m, index, low), v: one(v, index, low) };
        const N = div(moments.m, updateMoments(R, moments, settings, step));
        const rate = (learningRate * scale) / (1 - beta1 ** step);
        forBands(gradient, { index, rows, columns }, (row, height, start) => {
          const direction = tall ? mm(narrow(N, 0, row, height), transpose(P, 0, 1)) : mm(narrow(P, 0, row, height), N);
          weight.move(start, view(direction, [-1]), keptOf(parameter, update, weightDecay), rate);
        });
      }),
    );
  };
  return {
    layout: { projection: { shape: [matrices, short, rank], dtype: "float32" }, m: moment, v: moment },
    update: (weight, gradient, state, update) => project(weight, gradient, state, { ...update, gradientScale: 1 }),
    kernel: project,
  };
}

/** Orthonormal [shorter side, rank] that spans the leading singular directions of a matrix, on its shorter side. */
function leadingDirections(G: Tensor, rank: number): Tensor {
  return scope(() => {
    const turned = transpose(G, 0, 1);
    const [rows, columns] = shape(G);
    const vectors = linalgEigh(rows >= columns ? mm(turned, G) : mm(G, turned))[1];
    return narrow(vectors, 1, Math.min(rows, columns) - rank, rank);
  });
}

/** `directions`, with signs such that the product of each column with the same column of `before` is at least zero. */
function alike(directions: Tensor, before: Tensor): Tensor {
  const against = cast(lt(sumDim(mul(directions, before), [0], true), 0), "float32");
  return mul(directions, addScalar_(mulScalar_(against, -2), 1));
}
