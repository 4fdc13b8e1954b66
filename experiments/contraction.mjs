// How well the iterative inverse of revffn works while a model trains:
//   node experiments/contraction.mjs [--depth 4] [--marks 0,30,100,300]
// The small model of experiments/exactness.mjs, trained on Moby-Dick as bytes with stored activations, so that training
// never uses the inverse. For each solver and number of evaluations of attention: the largest error of the rebuilt
// first streams and the relative error of all gradients. Takes a minute or two on one core.
import { parseArgs } from "node:util";

import { engineInfo, gridStreams, openExperiment, revffn, setThreads } from "revmoe";
import { mobyDick } from "./moby-dick.mjs";

const { values } = parseArgs({
  options: {
    depth: { type: "string", default: "4" },
    marks: { type: "string", default: "0,30,100,300" },
    rate: { type: "string", default: "1e-3" },
  },
});
/** @type {Omit<import("revmoe").RevffnSettings, "iterations" | "storedHint">} */
const plain = { tolerance: 0, start: "output", damping: 1, anderson: false };
/** @type {Record<string, typeof plain>} */
const SOLVERS = {
  plain,
  "from zero": { ...plain, start: "zero" },
  "damping 1/2": { ...plain, damping: 0.5 },
  Anderson: { ...plain, anderson: true },
};
const EVALUATIONS = [2, 5, 10, 20, 50];

setThreads(1);
const stored = revffn({ ...plain, iterations: 10, storedHint: true });
const experiment = openExperiment(stored, Number(values.depth), { text: mobyDick(), documents: 2, length: 64 });
console.log(
  `libtorch ${engineInfo().version}, ${values.depth} blocks, int32 streams, float32 products, ${new Date().toISOString().slice(0, 10)}\n`,
);
console.log(`| steps | loss | solver | ${EVALUATIONS.map((count) => `${count} evaluations`).join(" | ")} |`);
console.log(`| ---: | ---: | --- |${" ---: |".repeat(EVALUATIONS.length)}`);
let done = 0;
for (const mark of values.marks.split(",").map(Number)) {
  const losses = experiment.train(mark - done, Number(values.rate)).slice(-20);
  done = mark;
  const loss = losses.length > 0 ? (losses.reduce((sum, each) => sum + each, 0) / losses.length).toFixed(2) : "-";
  for (const [name, solver] of Object.entries(SOLVERS)) {
    const cells = EVALUATIONS.map((iterations) => {
      const result = experiment.measure(
        gridStreams("int32", 16),
        "float32",
        revffn({ ...solver, iterations, storedHint: false }),
      );
      return result === null
        ? "overflow"
        : `${result.reconstructionError.toExponential(0)} / ${result.gradientError.toExponential(0)}`;
    });
    console.log(`| ${[mark, loss, name, ...cells].join(" | ")} |`);
  }
}
experiment.close();
