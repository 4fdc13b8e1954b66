// One document of many tokens on the tiny model, forward, backward and update:
//   node experiments/long.mjs [tokens] [tileTokens] [method] [dtype]
// The document is Moby-Dick as one row. Prints the step's time and its peak by term; memory is the allocator's count,
// so it is the same on every machine. 65536 tokens take about ten minutes on two cores without fused attention.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import {
  deviceStore,
  describeMemory,
  engineInfo,
  gridStreams,
  hasOp,
  ledger,
  loadModel,
  loadTokenizer,
  makeOptimizer,
  memoryTerms,
  METHODS,
  momentum,
  OptimizerStates,
  resetPeak,
  setThreads,
  trainStep,
} from "revmoe";
import { makeData } from "../examples/make-data.mjs";

const [tokenCount, tileTokens] = [Number(process.argv[2] ?? 65_536), Number(process.argv[3] ?? 4096)];
const [method, computeDtype] = [process.argv[4] ?? "reversible", process.argv[5] ?? "float32"];
const folder = fileURLToPath(new URL("../examples/tiny-moe", import.meta.url));
const tokens = readDocument(tokenCount);

setThreads(0);
const model = loadModel(folder, { weightsDtype: "float32", device: "cpu" });
const states = new OptimizerStates(makeOptimizer({ optimizer: "adamw" }), model);
/** @type {import("revmoe").Network} */
const network = {
  model,
  coupling: momentum(0.25),
  format: gridStreams("int32", 16),
  computeDtype: /** @type {import("revmoe").DType} */ (computeDtype),
  device: "cpu",
  store: deviceStore("cpu"),
  lossTileTokens: 1024,
  tileTokens,
};
const batch = {
  tokens,
  labels: Int32Array.from(tokens, (_, i) => tokens[i + 1] ?? -100),
  positions: Int32Array.from(tokens.keys()),
  segments: [tokenCount],
  trainedTokens: tokenCount - 1,
};
resetPeak();
const before = ledger().liveBytes;
const [started, cpuStarted] = [performance.now(), process.cpuUsage()];
const result = trainStep(network, states, [batch], {
  method: METHODS[method],
  step: 1,
  learningRate: 1e-4,
  maxBlockGradNorm: 1,
  seed: 1,
});
const seconds = (performance.now() - started) / 1000;
const { user, system } = process.cpuUsage(cpuStarted);
const { version, threads } = engineInfo();
const form = hasOp("aten::scaled_dot_product_attention") ? "fused attention" : "attention in tiles";
console.log(`libtorch ${version}, ${threads} threads, ${form}, ${computeDtype}, ${method}`);
console.log(
  `one document of ${tokenCount} tokens, feed-forward layers in tiles of ${tileTokens}: loss ${result.loss.toFixed(3)}`,
);
console.log(
  `${seconds.toFixed(1)} s a step, ${(tokenCount / seconds).toFixed(0)} tokens/s; ${((user + system) / 1e6).toFixed(1)} s of processor time`,
);
console.log(`peak ${describeMemory(memoryTerms(network, states, result))}`);
console.log(
  `${((ledger().peakBytes - before) / tokenCount / 1024).toFixed(1)} KiB per token above what is alive before the step`,
);

function readDocument(count) {
  const data = mkdtempSync(join(tmpdir(), "revmoe-long-"));
  try {
    const rows = readFileSync(makeData("moby-dick", data).train, "utf8").trim().split("\n");
    const ids = loadTokenizer(folder).encode(rows.map((row) => JSON.parse(row).text).join("\n\n"));
    if (ids.length < count) throw new Error(`the document has ${ids.length} tokens, fewer than ${count}`);
    return Int32Array.from(ids.slice(0, count));
  } finally {
    rmSync(data, { recursive: true });
  }
}
