// A coupling of one's own, with the library alone: node examples/library/coupling.mjs [MODEL] [STEPS]
// The midpoint rule on two streams (arXiv 2512.02056): p' = c, c' = p + 2 f(c), and back: c = p', p = c' - 2 f(c). It stores nothing.
// Shows that its gradient is the one of stored activations, bit for bit, and trains a little. It is no ordinary network, so a pretrained
// model starts from little; see docs/quality.md for that.
import { fileURLToPath } from "node:url";

import {
  deviceStore,
  makeOptimizer,
  freeModel,
  gridStreams,
  loadModel,
  loadTokenizer,
  METHODS,
  openSource,
  ops,
  OptimizerStates,
  trainStep,
} from "revmoe";

const { add, add_, clone, mulScalar } = ops;

/** @type {import("revmoe").Coupling} */
const midpoint = {
  name: "midpoint",
  reversible: true,
  numStreams: 2,
  storedBits: 0,
  conversion: "different",
  drawsSigns: false,
  takesUnits: true, // uses a block as one function, "both"
  begin: (x_TD, format) => {
    const p_TD = format.fromFloat(x_TD);
    return [p_TD, clone(p_TD)];
  },
  forward: ([p_TD, c_TD], apply, format) => {
    const y_TD = apply("both", format.toFloat(c_TD));
    return { streams: [c_TD, format.plus(p_TD, y_TD, 2)], bits: null };
  },
  // One function for every method. `known` is there when the input streams are to be rebuilt, too.
  reverse: ([dp_TD, dc_TD], visit, known, format) => {
    const c_TD = known?.streams[0] ?? null;
    const { y_TD, dx_TD } = visit("both", c_TD && format.toFloat(c_TD), mulScalar(dc_TD, 2));
    const dStreams = [dc_TD, add_(dp_TD, dx_TD)];
    if (!known || y_TD === null) return { dStreams, streams: null };
    return { dStreams, streams: [format.plus_(known.streams[1], y_TD, -2), known.streams[0]] };
  },
  end: ([p_TD, c_TD], format) => mulScalar(add(format.toFloat(p_TD), format.toFloat(c_TD)), 0.5),
  endGradient: (dHidden_TD) => [mulScalar(dHidden_TD, 0.5), mulScalar(dHidden_TD, 0.5)],
  beginGradient: ([dp_TD, dc_TD]) => add(dp_TD, dc_TD),
};

const tiny = fileURLToPath(new URL("../tiny-moe", import.meta.url));
const [folder, steps] = [process.argv[2] ?? tiny, Number(process.argv[3] ?? 5)];
const model = loadModel(folder, { weightsDtype: "float32", device: "cpu" });
const states = new OptimizerStates(makeOptimizer({ optimizer: "adamw", weight_decay: 0 }), model);
const tokens = loadTokenizer(openSource(folder)).encode(
  "Call me Ishmael. Some years ago I thought I would sail a little.",
);
const batch = {
  tokens,
  labels: tokens.map((_, i) => tokens[i + 1] ?? -100),
  positions: tokens.map((_, i) => i),
  segments: [tokens.length],
  trainedTokens: tokens.length - 1,
};

/** @param {number} step @param {number} learningRate @param {keyof METHODS} method */
function take(step, learningRate, method = "reversible") {
  return trainStep(
    {
      model,
      coupling: midpoint,
      format: gridStreams("int32", 16),
      computeDtype: "float32",
      device: "cpu",
      store: deviceStore("cpu"),
      lossTileTokens: 512,
    },
    states,
    [batch],
    { method: METHODS[method], step, learningRate, maxBlockGradNorm: 1, seed: 1 },
  );
}

// At a rate of zero nothing changes, so both see the same weights.
const [stored, rebuilt] = [take(1, 0, "store"), take(1, 0)];
console.log(`gradient norm, stored ${stored.gradNorm}, rebuilt ${rebuilt.gradNorm}`);
console.log(`rebuilt streams off by ${rebuilt.reconstructionError}`);
for (let step = 1; step <= steps; step++) console.log(`step ${step}: loss ${take(step, 1e-3).loss.toFixed(4)}`);
states.free();
freeModel(model);
