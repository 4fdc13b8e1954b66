// Activation peak of one step against depth, for each method: node bench/depth.mjs
// Activation peak: the step's peak above what is alive before it. 4096 tokens in documents of 512, width 256, 8 experts; the
// allocator's count, so the same on every machine. Takes a minute.
import { readFileSync } from "node:fs";

import {
  adamw,
  additive,
  floatStreams,
  freeModel,
  gridStreams,
  ledger,
  METHODS,
  momentum,
  ordinary,
  OptimizerStates,
  resetPeak,
  setThreads,
  trainStep,
} from "../dist/index.js";
import { randomModel } from "../dist/model/model.js";
import { qwen2Moe } from "../dist/model/qwen2-moe.js";

const DEPTHS = [4, 12, 24, 48];
const [TOKENS, LENGTH] = [4096, 512];
const source = JSON.parse(readFileSync(new URL("../examples/tiny-moe/config.json", import.meta.url), "utf8"));
const grid = gridStreams("int32", 16);
const float = floatStreams("float32");
const CASES = [
  ["store (ordinary)", ordinary, float, METHODS.store],
  ["checkpoint (ordinary)", ordinary, float, METHODS.checkpoint],
  ["reversible, momentum 1/4", momentum(0.25), grid, METHODS.reversible],
  ["reversible, momentum 1/2", momentum(0.5), grid, METHODS.reversible],
  ["reversible, momentum -1", momentum(-1), grid, METHODS.reversible],
  ["reversible, additive", additive, grid, METHODS.reversible],
];
const tokens = Int32Array.from({ length: TOKENS }, (_, i) => Math.abs(Math.imul(i + 1, 2654435761) >>> 8) % source.vocab_size);
const batch = {
  tokens,
  labels: Int32Array.from(tokens, (_, i) => tokens[i + 1] ?? -100),
  positions: Int32Array.from(tokens, (_, i) => i % LENGTH),
  segments: Array(TOKENS / LENGTH).fill(LENGTH),
  trainedTokens: TOKENS - 1,
};

function peakMiB(layers, coupling, format, method) {
  const config = qwen2Moe.readConfig({ ...source, num_hidden_layers: layers }, "config.json");
  const model = randomModel(qwen2Moe, config, 1, "float32", "cpu");
  const states = new OptimizerStates(adamw({ beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 }), model);
  const before = ledger().liveBytes;
  resetPeak();
  const network = { model, coupling, format, computeDtype: "float32", device: "cpu", lossTileTokens: 512 };
  trainStep(network, states, [batch], { method, step: 1, learningRate: 1e-4, maxBlockGradNorm: 1, seed: 1 });
  const peak = ledger().peakBytes - before;
  states.free();
  freeModel(model);
  return peak / 2 ** 20;
}

setThreads(0);
console.log(`| activation peak, MiB | ${DEPTHS.map((depth) => `${depth} blocks`).join(" | ")} | per further block |`);
console.log(`| --- | ${DEPTHS.map(() => "---:").join(" | ")} | ---: |`);
for (const [name, coupling, format, method] of CASES) {
  const peaks = DEPTHS.map((depth) => (method === METHODS.store && depth > 24 ? null : peakMiB(depth, coupling, format, method)));
  const [last, first] = [peaks.findLastIndex((peak) => peak !== null), 0];
  const slope = (peaks[last] - peaks[first]) / (DEPTHS[last] - DEPTHS[first]);
  console.log(`| ${name} | ${peaks.map((peak) => (peak === null ? "-" : peak.toFixed(1))).join(" | ")} | ${slope.toFixed(2)} |`);
}
