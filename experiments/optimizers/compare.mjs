// The curves of ours.mjs and theirs.py side by side: node experiments/optimizers/compare.mjs FOLDER [OTHER]. For each
// case: losses of both (means of five steps), the largest difference between both in a step's loss, and the band. The
// band is the largest difference between our two runs, whose sums have another order, or from the run in OTHER with
// another libtorch, if that is larger.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { CASES } from "./cases.mjs";

const [folder, other] = process.argv.slice(2);
const read = (name, from = folder) => {
  const path = join(from, name);
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : { losses: {} };
};
const [ours, theirs] = [read("ours.json"), read("theirs.json")];
const elsewhere = other ? read("ours.json", other) : { losses: {} };
const mean = (losses, end) =>
  losses.slice(Math.max(0, end - 5), end).reduce((sum, loss, _, some) => sum + loss / some.length, 0);
const largest = (a, b) => Math.max(...a.slice(0, b.length).map((loss, i) => Math.abs(loss - b[i])));

console.log(
  `ours: libtorch ${ours.libtorch}, ${ours.date}; theirs: ${JSON.stringify(theirs.versions)}, ${theirs.date}`,
);
console.log(
  "| optimizer | published | steps | ours, first to last five | published, last five | largest difference of a step | band |",
);
console.log("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
for (const [name, { reference }] of Object.entries(CASES)) {
  const { whole, again } = ours.losses[name] ?? {};
  const published = theirs.losses[name];
  if (!whole || !published) continue;
  const steps = Math.min(whole.length, published.length);
  const runs = [again, elsewhere.losses[name]?.whole].filter(Boolean);
  const band = runs.length > 0 ? Math.max(...runs.map((run) => largest(whole, run))).toExponential(1) : "";
  const curves = [`${whole[0].toFixed(3)} to ${mean(whole, steps).toFixed(4)}`, mean(published, steps).toFixed(4)];
  console.log(
    `| ${[name, reference, steps, ...curves, largest(whole, published).toExponential(1), band].join(" | ")} |`,
  );
}
