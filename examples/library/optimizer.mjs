// An optimizer of one's own, with the library alone: node examples/library/optimizer.mjs [MODEL] [STEPS]
// Sign descent (signSGD, arXiv 1802.04434): w -= rate * sign(g). It keeps no state. A rule says, for one parameter, which state it
// keeps (here none) and how it updates in place; it works in tiles, so that it needs no memory as large as the parameter.
import { fileURLToPath } from "node:url";

import {
  deviceStore,
  forTiles,
  freeModel,
  gridStreams,
  loadModel,
  loadTokenizer,
  METHODS,
  momentum,
  openSource,
  ops,
  OptimizerStates,
  range,
  trainStep,
} from "revmoe";

/** Larger than 1 / the smallest gradient whose sign counts: smaller ones are scaled down, not rounded up. */
const STEEP = 2 ** 100;

/** @type {import("revmoe").Optimizer} */
const signDescent = {
  name: "sign",
  rule: () => ({
    layout: {},
    update: (weight, gradient, _state, { learningRate }) =>
      forTiles(gradient, (start, count) => {
        const sign_N = ops.clamp_(ops.mulScalar_(range(gradient, start, count), STEEP), -1, 1);
        // The weight may be bfloat16: `edit` hands out float32 values and rounds what becomes of them.
        weight.edit(start, count, (w_N) => ops.add_(w_N, sign_N, -learningRate));
      }),
  }),
};

const tiny = fileURLToPath(new URL("../tiny-moe", import.meta.url));
const [folder, steps] = [process.argv[2] ?? tiny, Number(process.argv[3] ?? 5)];
const model = loadModel(folder, { weightsDtype: "bfloat16", device: "cpu" });
const states = new OptimizerStates(signDescent, model);
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
for (let step = 1; step <= steps; step++) {
  const { loss } = trainStep(
    {
      model,
      coupling: momentum(-1 / 256),
      format: gridStreams("int32", 16),
      computeDtype: "float32",
      device: "cpu",
      store: deviceStore("cpu"),
      lossTileTokens: 512,
    },
    states,
    [batch],
    { method: METHODS.reversible, step, learningRate: 1e-4, maxBlockGradNorm: 0, seed: 1 },
  );
  console.log(`step ${step}: loss ${loss.toFixed(4)}, optimizer state ${states.bytes} bytes`);
}
states.free();
freeModel(model);
