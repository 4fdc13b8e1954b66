// A few training steps by hand, with the library alone: node examples/library/step.mjs [MODEL] [STEPS]
// A step is told everything: a network (a model seen through a coupling), optimizer state, batches and options. Nothing is read but
// the model's folder, nothing is saved. Prints the loss of each step, then the memory of the last one by term.
import { fileURLToPath } from "node:url";

import {
  deviceStore,
  makeOptimizer,
  describeMemory,
  freeModel,
  gridStreams,
  ledger,
  loadModel,
  loadTokenizer,
  memoryTerms,
  METHODS,
  momentum,
  openSource,
  OptimizerStates,
  resetPeak,
  trainStep,
} from "revmoe";

const tiny = fileURLToPath(new URL("../tiny-moe", import.meta.url));
const [folder, steps] = [process.argv[2] ?? tiny, Number(process.argv[3] ?? 5)];
const TEXTS = [
  "Call me Ishmael. Some years ago, never mind how long precisely, I thought I would sail about a little.",
  "It is a way I have of driving off the spleen and regulating the circulation.",
];

// Made outside any scope: they live until they are freed below.
const model = loadModel(folder, { weightsDtype: "float32", device: "cpu" });
const optimizer = makeOptimizer({ optimizer: "adamw", weight_decay: 0 });
const states = new OptimizerStates(optimizer, model);

/** @type {import("revmoe").Network} */
const network = {
  model,
  coupling: momentum(-1 / 256), // how the streams pass a block, and back
  format: gridStreams("int32", 16), // streams are multiples of 2^-16
  computeDtype: "float32",
  device: "cpu",
  store: deviceStore("cpu"),
  lossTileTokens: 512,
};

const tokenizer = loadTokenizer(openSource(folder));
const batches = TEXTS.map((text) => batchOf(tokenizer.encode(text)));

let result;
for (let step = 1; step <= steps; step++) {
  resetPeak();
  result = trainStep(network, states, batches, {
    method: METHODS.reversible, // keeps stored bits and rebuilds the rest
    step,
    learningRate: 1e-3,
    maxBlockGradNorm: 1,
    seed: 1,
  });
  console.log(`step ${step}: loss ${result.loss.toFixed(4)}, rebuilt streams off by ${result.reconstructionError}`);
}
if (result) console.log(describeMemory(memoryTerms(network, states, result)));

states.free();
freeModel(model);
console.log(`tensors alive at the end: ${ledger().tensors}`);

/** One document: each token is to predict the next one. */
function batchOf(tokens) {
  return {
    tokens,
    labels: tokens.map((_, i) => tokens[i + 1] ?? -100), // -100: nothing to predict
    positions: tokens.map((_, i) => i),
    segments: [tokens.length], // lengths of the documents in the batch
    trainedTokens: tokens.length - 1,
  };
}
