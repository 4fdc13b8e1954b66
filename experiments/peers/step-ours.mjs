// Our training step on a CPU, in the process that step.mjs starts: its argument is JSON, and it prints a line of JSON
// for each step, as step.py does. Uses only the library, with the default settings of `revmoe train`, except that the
// limit on the norm of gradients is off on both sides.
import { readFileSync, writeFileSync } from "node:fs";

import {
  deviceStore,
  engineInfo,
  floatStreams,
  gridStreams,
  ledger,
  loadModel,
  makeOptimizer,
  METHODS,
  momentum,
  OptimizerStates,
  ordinary,
  placedParameters,
  parameterCount,
  resetPeak,
  setThreads,
  trainStep,
} from "revmoe";

const options = JSON.parse(process.argv[2]);
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

setThreads(options.threads);
const model = loadModel(options.model, {
  weightsDtype: options.dtype === "bfloat16" ? "bfloat16" : "float32",
  device: "cpu",
});
const loadedBytes = ledger().liveBytes;
const computeDtype = options.dtype === "float32" ? "float32" : "bfloat16";
const states = new OptimizerStates(makeOptimizer({ optimizer: options.optimizer }, computeDtype), model);
const stateBytes = ledger().liveBytes - loadedBytes;
const reversible = options.method === "reversible";
/** @type {import("revmoe").Network} */
const network = {
  model,
  coupling: reversible ? momentum(-1 / 256) : ordinary,
  format: reversible ? gridStreams("int32", 16) : floatStreams("float32"),
  computeDtype,
  device: "cpu",
  store: deviceStore("cpu"),
  lossTileTokens: 1024,
  tileTokens: 4096,
};
const batches = options.batches.map((tokens) => ({
  tokens,
  labels: tokens.map((_, i) => tokens[i + 1] ?? -100),
  positions: [...tokens.keys()],
  segments: [tokens.length],
  trainedTokens: tokens.length - 1,
}));
say({
  kind: "made",
  parameters: parameterCount(placedParameters(model.architecture)),
  version: engineInfo().version,
});

for (let step = 1; step <= options.steps; step++) {
  // The peak is that of steps, without loading and a first step.
  if (step === 2) writeFileSync("/proc/self/clear_refs", "5");
  resetPeak();
  const [began, before] = [performance.now(), process.resourceUsage()];
  const { loss } = trainStep(network, states, batches, {
    method: METHODS[options.method],
    step,
    learningRate: options.rate,
    maxBlockGradNorm: 0,
    seed: 1,
  });
  const seconds = (performance.now() - began) / 1000;
  const after = process.resourceUsage();
  const since = (...names) => names.reduce((sum, name) => sum + after[name] - before[name], 0);
  const cpuSeconds = since("userCPUTime", "systemCPUTime") / 1e6;
  say({ kind: "step", loss, seconds, cpuSeconds, freshPages: since("minorPageFault") });
}
const [, peakKib] = /^VmHWM:\s+(\d+)/m.exec(readFileSync("/proc/self/status", "utf8"));
say({ kind: "end", peakBytes: 1024 * Number(peakKib), stateBytes, ledgerPeakBytes: ledger().peakBytes });
