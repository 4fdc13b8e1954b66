// How exact every coupling's backward pass is, with random weights and after training:
//   node experiments/exactness.mjs [--depths 4,24,96] [--steps 300] [--couplings "momentum 1/4;additive"]
// Prints a Markdown table, row by row: for each way of computing, the largest error of the rebuilt first streams, and
// the relative error of all gradients compared with stored activations. Exit code 1 if a coupling with an explicit
// inverse, or revffn with its hint, is not exact on an integer grid. All of it takes an hour on one core.
import { parseArgs } from "node:util";

import {
  additive,
  bdia,
  engineInfo,
  floatStreams,
  gridStreams,
  momentum,
  openExperiment,
  revffn,
  setThreads,
} from "revmoe";
import { mobyDick } from "./moby-dick.mjs";

/** @type {Omit<import("revmoe").RevffnSettings, "storedHint">} */
const INVERSE = { iterations: 8, tolerance: 0, start: "output", damping: 1, anderson: false };
const hinted = revffn({ ...INVERSE, storedHint: true });
/** By name: couplings with the same forward pass and different backward passes. */
const COUPLINGS = {
  "momentum 1/2": [momentum(0.5)],
  "momentum 1/4": [momentum(0.25)],
  "momentum -1/4": [momentum(-0.25)],
  "momentum -1/8": [momentum(-0.125)],
  "momentum -1/16": [momentum(-0.0625)],
  "momentum -1/256": [momentum(-1 / 256)],
  "momentum -1": [momentum(-1)],
  "bdia 1/4": [bdia(0.25)],
  additive: [additive],
  revffn: [hinted, revffn({ ...INVERSE, storedHint: false })],
};
const FORMATS = [gridStreams("int32", 16), gridStreams("int64", 32), floatStreams("float32")];
const WAYS = FORMATS.flatMap((format) => ["float32", "bfloat16"].map((computeDtype) => ({ format, computeDtype })));

const { values } = parseArgs({
  options: {
    depths: { type: "string", default: "4,24,96" },
    steps: { type: "string", default: "300" },
    couplings: { type: "string", default: Object.keys(COUPLINGS).join(";") },
  },
});
const depths = values.depths.split(",").map(Number);
const steps = Number(values.steps);
const names = values.couplings.split(";").map((name) => name.trim());
for (const name of names)
  if (!(name in COUPLINGS)) throw new Error(`no coupling "${name}" (expected ${Object.keys(COUPLINGS).join("; ")})`);

setThreads(1);
const reading = { text: mobyDick(), documents: 2, length: 64 };
let inexact = 0;
console.log(`libtorch ${engineInfo().version}, 1 thread, ${new Date().toISOString().slice(0, 10)}\n`);
const headings = WAYS.map(({ format, computeDtype }) => `${format.name}, ${computeDtype}`);
console.log(`| coupling | blocks | steps | loss | ${headings.join(" | ")} |`);
console.log(`| --- | ---: | ---: | ---: |${" ---: |".repeat(WAYS.length)}`);
for (const depth of depths) {
  for (const name of names) {
    const experiment = openExperiment(COUPLINGS[name][0], depth, reading);
    printRows(name, [depth, 0, "-"], experiment);
    const last = experiment.train(steps, 1e-3).slice(-20);
    printRows(name, [depth, steps, (last.reduce((sum, loss) => sum + loss, 0) / last.length).toFixed(2)], experiment);
    experiment.close();
  }
}
if (inexact > 0) {
  console.log(`\n${inexact} are not exact and should be`);
  process.exitCode = 1;
}

function printRows(name, facts, experiment) {
  for (const coupling of COUPLINGS[name]) {
    const approximate = name === "revffn" && coupling !== hinted;
    const cells = WAYS.map(({ format, computeDtype }) => {
      if (coupling === hinted && !format.exact) return "-";
      const result = experiment.measure(format, computeDtype, coupling);
      const exact = result !== null && result.reconstructionError === 0 && result.gradientError === 0;
      if (!exact && format.exact && !approximate) inexact++;
      if (result === null) return "overflow";
      return exact ? "0" : `${result.reconstructionError.toExponential(0)} / ${result.gradientError.toExponential(0)}`;
    });
    const label = name === "revffn" ? `revffn, ${approximate ? "fixed point" : "stored hint"}` : name;
    console.log(`| ${[label, ...facts, ...cells].join(" | ")} |`);
  }
}
