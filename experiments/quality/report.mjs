// Tables (Markdown, to stdout) and the plot of the study's results:
//   node experiments/quality/report.mjs [RESULTS.jsonl] [PLOT.svg]
// The plot shows the longest runs. Percentages are paired: each run is compared with the ordinary run of the same seed;
// means and standard deviations are over seeds.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { CASES, finalLoss, hasOrdinaryForm, MORE_CASES } from "./cases.mjs";
import { plot } from "./plot.mjs";

/** Cases that are trained and evaluated as the ordinary network anyway. */
const SAME = /^(ordinary|bdia)/;
const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const [results = path("results/tiny-moe.jsonl"), svg = path("../../docs/quality.svg")] = process.argv.slice(2);
const lines = readFileSync(results, "utf8").split("\n").filter(Boolean);
// Two processes on one file can make the same run twice; it counts once.
const runs = [...new Map(lines.map((line) => JSON.parse(line)).map((run) => [run.key, run])).values()];

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const deviation = (values) =>
  Math.sqrt(mean(values.map((value) => (value - mean(values)) ** 2)) * (values.length / (values.length - 1)));
const spread = (values, digits, plus = false) => {
  const sign = plus && mean(values) >= 0 ? "+" : "";
  return sign + mean(values).toFixed(digits) + (values.length > 1 ? ` ± ${deviation(values).toFixed(digits)}` : "");
};
const endOf = ({ name, evals }) => finalLoss(name, evals.at(-1));
/** The steps that have a column. */
const marksOf = ({ evals, steps }) =>
  evals.map(({ step }) => step).filter((step) => [20, 50, 150, 500].includes(step) || step === steps);
const table = (head, rows) =>
  [head, head.map((_, i) => (i === 0 ? "---" : "---:")), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");

const seeded = runs.filter(({ part }) => part === "seeds");
const mostSteps = Math.max(...seeded.map(({ steps }) => steps));
for (const shape of groups(seeded, ({ steps, batch, length }) => `${steps} steps of ${batch} x ${length} tokens`)) {
  const [title, some] = shape;
  console.log(`### ${title}\n\n${seedsTable(some)}\n`);
}
for (const [title, some] of groups(
  runs.filter(({ part }) => part === "tune"),
  ({ steps, batch, length }) => `Learning rates: ${steps} steps of ${batch} x ${length} tokens, one seed`,
)) {
  console.log(`### ${title}\n\n${tuneTable(some)}\n`);
}

function seedsTable(some) {
  const ordinary = new Map(some.filter(({ name }) => name === "ordinary").map((run) => [run.seed, run]));
  const paired = some.filter(({ seed }) => ordinary.has(seed));
  const rows = [];
  const lines = [];
  for (const name of Object.keys({ ...CASES, ...MORE_CASES })) {
    const same = paired.filter((run) => run.name === name);
    if (same.length === 0) continue;
    const formed = hasOrdinaryForm(name);
    const over = same.map((run) => 100 * (endOf(run) / endOf(ordinary.get(run.seed)) - 1));
    const at = (step, of) =>
      spread(
        same.map(({ evals }) => of(evals.find((one) => one.step === step))),
        3,
      );
    const both = (step) =>
      at(step, ({ trained }) => trained) +
      (formed && !SAME.test(name) ? ` / ${at(step, ({ exported }) => exported)}` : "");
    rows.push([
      name,
      [...new Set(same.map(({ rate }) => rate))].join(", "),
      same[0].bits ?? "-",
      same.length,
      same[0].evals[0].trained.toFixed(3),
      ...marksOf(same[0]).map(both),
      name === "ordinary" ? "-" : spread(over, 2, true) + (formed ? "" : " (as trained)"),
      name === "ordinary" ? "-" : share(same, ordinary),
    ]);
    // Some runs were evaluated more often than others.
    const steps = same[0].evals
      .map(({ step }) => step)
      .filter((step) => same.every(({ evals }) => evals.some((one) => one.step === step)));
    const meanAt = (step) =>
      mean(
        same.map((run) =>
          finalLoss(
            run.name,
            run.evals.find((one) => one.step === step),
          ),
        ),
      );
    lines.push({
      name,
      curve: steps.map((step) => [step, meanAt(step)]),
      gap: mean(over),
      error: over.length > 1 ? deviation(over) : 0,
    });
  }
  if (some[0].steps === mostSteps) writeFileSync(svg, plot(lines));
  const marks = rows.length > 0 ? marksOf(paired[0]) : [];
  const head = [
    "coupling",
    "rate",
    "bits at end",
    "seeds",
    "at conversion",
    ...marks.map((step) => `step ${step}, as trained / exported`),
  ];
  return table([...head, "% of ordinary", "tokens ordinary needs for it"], rows);
}

/** The share of the ordinary run's tokens after which it had the final, exported loss of this run. */
function share(same, ordinary) {
  const shares = same.map(({ name, seed, steps, evals }) => {
    const curve = ordinary.get(seed).evals;
    const wanted = endOf({ name, evals });
    const i = curve.findIndex(({ exported }) => exported <= wanted);
    if (i <= 0) return i === 0 ? 0 : 1; // before its first step, or never
    const [a, b] = [curve[i - 1], curve[i]];
    return (a.step + ((b.step - a.step) * (a.exported - wanted)) / (a.exported - b.exported)) / steps;
  });
  return `${(100 * mean(shares)).toFixed(0)} %`;
}

function tuneTable(some) {
  const rates = [...new Set(some.map(({ rate }) => rate))].sort((a, b) => a - b);
  const rows = groups(some, ({ name }) => name).map(([name, mine]) => [
    name,
    ...rates.map(
      (rate) =>
        mine
          .filter((run) => run.rate === rate)
          .map((run) => endOf(run).toFixed(3))
          .join() || "",
    ),
  ]);
  return table(["coupling", ...rates], rows);
}

function groups(items, keyOf) {
  const found = new Map();
  for (const item of items) found.set(keyOf(item), [...(found.get(keyOf(item)) ?? []), item]);
  return [...found];
}
