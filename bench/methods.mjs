// Step time and peak memory of each method on the tiny model, side by side: node bench/methods.mjs [tokens] [rounds]
// Methods alternate within a round, so that a noisy machine disturbs all alike; ratios are of medians, the first round is
// dropped. Needs `npm run setup` only.
import { readFileSync } from "node:fs";

import {
  adamw,
  engineInfo,
  floatStreams,
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

const [tokens, rounds] = [Number(process.argv[2] ?? 4096), Number(process.argv[3] ?? 6)];
const LENGTH = 512;
setThreads(0);
const source = JSON.parse(readFileSync(new URL("../examples/tiny-moe/config.json", import.meta.url), "utf8"));
const model = randomModel(qwen2Moe, qwen2Moe.readConfig(source, "config.json"), 1, "float32", "cpu");
const states = new OptimizerStates(adamw({ beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 }), model);
const network = (coupling, format) => ({ model, coupling, format, computeDtype: "float32", device: "cpu", lossTileTokens: 1024 });
const grid = gridStreams("int32", 16);
const CASES = {
  "store, ordinary": [network(ordinary, floatStreams("float32")), METHODS.store],
  "checkpoint, ordinary": [network(ordinary, floatStreams("float32")), METHODS.checkpoint],
  "checkpoint, momentum 1/4": [network(momentum(0.25), grid), METHODS.checkpoint],
  "reversible, momentum 1/4": [network(momentum(0.25), grid), METHODS.reversible],
  "reversible, momentum -1": [network(momentum(-1), grid), METHODS.reversible],
};

const ids = Int32Array.from({ length: tokens }, (_, i) => Math.abs(Math.imul(i + 1, 2654435761) >>> 8) % source.vocab_size);
const batch = {
  tokens: ids,
  labels: Int32Array.from(ids, (_, i) => ids[i + 1] ?? -100),
  positions: Int32Array.from(ids, (_, i) => i % LENGTH),
  segments: Array(tokens / LENGTH).fill(LENGTH),
  trainedTokens: tokens - 1,
};
const rows = Object.keys(CASES).map((name) => ({ name, ms: [], peak: 0 }));
for (let round = 0; round <= rounds; round++) {
  for (const row of rows) {
    const [net, method] = CASES[row.name];
    resetPeak();
    const before = ledger().liveBytes;
    const started = performance.now();
    trainStep(net, states, [batch], { method, step: round * rows.length + 1, learningRate: 1e-4, maxBlockGradNorm: 1, seed: 1 });
    if (round > 0) row.ms.push(performance.now() - started);
    row.peak = ledger().peakBytes - before;
  }
}
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const { version, threads } = engineInfo();
console.log(`libtorch ${version}, ${threads} threads, ${tokens} tokens a step, ${rounds} rounds`);
const base = median(rows[1].ms);
for (const { name, ms, peak } of rows) {
  console.log(
    `${name.padEnd(26)} ${median(ms).toFixed(0).padStart(7)} ms  ${(median(ms) / base).toFixed(2)}x of checkpoint  ` +
      `${((tokens / median(ms)) * 1000).toFixed(0).padStart(6)} tok/s  activation peak ${(peak / 2 ** 20).toFixed(0).padStart(5)} MiB`,
  );
}
