// A coupling of one's own, trained on the tiny model: node examples/library/custom-coupling.mjs
// Two streams take turns: (a, b) becomes (b, a + f(b)), with f the whole block's addition. Back: b = a', a = b' - f(a').
// On the integer grid the inverse is exact, so that rebuilding gives the losses of keeping everything, to the last bit.
import { fileURLToPath } from "node:url";

import { adamw, freeModel, gridStreams, loadModel, METHODS, OptimizerStates, ops, setThreads, trainStep } from "revmoe";

/** @type {import("revmoe").Coupling} */
export const turns = {
  name: "turns",
  reversible: true,
  numStreams: 2,
  storedBits: 0,
  conversion: "different",
  drawsSigns: false,
  takesUnits: true,
  begin: (x, format) => {
    const a = format.fromFloat(x);
    return [a, ops.clone(a)];
  },
  // A stream that goes on as it is is copied: each block owns its own.
  forward: ([a, b], apply, format) => ({
    streams: [ops.clone(b), ops.add(a, format.fromFloat(apply("both", format.toFloat(b))))],
    bits: null,
  }),
  // `known` is null where inputs or graphs were kept: then there is nothing to rebuild.
  reverse: ([da, db], visit, known, format) => {
    const b = known?.streams[0] ?? null;
    const { y_TD: y, dx_TD: dx } = visit("both", b && format.toFloat(b), db);
    return {
      dStreams: [db, ops.add_(da, dx)],
      streams: known && [ops.sub_(known.streams[1], format.fromFloat(y)), b],
    };
  },
  end: ([a, b], format) => ops.mulScalar(ops.add(format.toFloat(a), format.toFloat(b)), 0.5),
  endGradient: (dHidden) => [ops.mulScalar(dHidden, 0.5), ops.mulScalar(dHidden, 0.5)],
  beginGradient: ([da, db]) => ops.add(da, db),
};

const folder = fileURLToPath(new URL("../tiny-moe", import.meta.url));

/** The losses of a few steps on one row of tokens. */
export function lossesOf(method, steps = 3) {
  const model = loadModel(folder, { weightsDtype: "float32", device: "cpu" });
  const states = new OptimizerStates(adamw({ beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 }), model);
  const network = {
    ...{ model, coupling: turns, format: gridStreams("int32", 16) },
    ...{ computeDtype: "float32", device: "cpu", lossTileTokens: 1024 },
  };
  const tokens = Int32Array.from({ length: 48 }, (_, i) => (i * 37) % 200);
  const batch = {
    tokens,
    labels: Int32Array.from(tokens, (_, i) => tokens[i + 1] ?? -100),
    positions: Int32Array.from(tokens.keys()),
    segments: [tokens.length],
    trainedTokens: tokens.length - 1,
  };
  const options = { method: METHODS[method], learningRate: 1e-3, maxBlockGradNorm: 1, seed: 1 };
  const losses = Array.from(
    { length: steps },
    (_, i) => trainStep(network, states, [batch], { ...options, step: i + 1 }).loss,
  );
  states.free();
  freeModel(model);
  return losses;
}

setThreads(1);
const stored = lossesOf("store");
for (const method of ["checkpoint", "reversible"]) {
  const losses = lossesOf(method);
  if (losses.some((loss, i) => loss !== stored[i])) throw new Error(`${method}: ${losses}, but store: ${stored}`);
}
console.log(`the same losses stored and rebuilt: ${stored.map((loss) => loss.toFixed(4)).join(", ")}`);
