// The charts of a run's course, and what each shows of a run. A new chart is an entry of CHARTS.
import { Chart } from "./chart.js";
import * as format from "./format.js";

/** @typedef {import("./store.js").Run} Run @typedef {import("./chart.js").Line} Line */

/** @type {{ title: string, about: string, note?: string, figure: string, format: (value: number) => string, axis?: (value: number) => string, log?: boolean, bytes?: boolean, exact?: boolean, also?: (run: Run) => Line[], wide?: boolean }[]} */
const CHARTS = [
  {
    title: "Loss",
    about: "Mean over trained tokens, in nats. Lower is better.",
    note: "Solid: rows trained on. Dashed: held-out rows. Rings: held-out rows, as the exported network.",
    figure: "loss",
    format: format.loss,
    axis: format.short,
    log: true,
    wide: true,
    also: heldOut,
  },
  {
    title: "Learning rate",
    about: "Of each step, after warm-up and schedule.",
    figure: "learningRate",
    exact: true,
    format: format.rate,
    axis: format.short,
  },
  {
    title: "Gradient norm",
    about: "Over all parameters, before clipping.",
    figure: "gradNorm",
    format: format.plain,
    axis: format.short,
    log: true,
  },
  {
    title: "Tokens per second",
    about: "All tokens of a step over its time.",
    figure: "tokensPerSecond",
    format: format.whole,
  },
  {
    title: "Token accuracy",
    about: "Share of trained tokens that the network finds likeliest.",
    figure: "meanTokenAccuracy",
    format: format.share,
  },
  {
    title: "Peak memory",
    about: "Most bytes of tensors at once in a step. Dashed: as planned.",
    note: "Dashed: as planned.",
    figure: "peakBytes",
    bytes: true,
    exact: true,
    format: format.bytes,
    also: planned,
  },
];

/** @param {Element} place @returns {{ update(runs: Run[], detail: Run | null, view: { smoothing: number, log: boolean }): void, showAll(): void }} */
export function courseCharts(place) {
  const charts = CHARTS.map((what) => ({ what, chart: new Chart(what) }));
  for (const { what, chart } of charts) chart.element.classList.toggle("wide", what.wide === true);
  const showAll = () => charts.forEach(({ chart }) => chart.showAll());
  place.addEventListener("show-all", showAll);
  place.append(...charts.map(({ chart }) => chart.element));
  return {
    update: (runs, detail, { smoothing, log }) => {
      const range = stepsOf(runs);
      for (const { what, chart } of charts) {
        const lines = runs.flatMap((run) => [
          ...linesOf(run, what.figure, what.exact ? 0 : smoothing),
          ...(what.also?.(run) ?? []),
        ]);
        const last = detail?.record.steps.values[what.figure].findLast((value) => value !== null);
        const reading = last === undefined || last === null ? "" : what.format(last);
        chart.update(lines, { log, range, reading, color: detail ? runColor(detail) : "--muted" });
      }
    },
    showAll,
  };
}

const runColor = (/** @type {Run} */ run) => `--run-${run.color}`;

/**
 * The same range of steps for all charts; slightly wider, so that marks at its ends are not cut.
 * @param {Run[]} runs @returns {[number, number]}
 */
function stepsOf(runs) {
  const ends = runs.flatMap(({ record: { steps, evals } }) => [
    steps.step[0],
    steps.step.at(-1),
    evals.trained.step[0],
  ]);
  const known = ends.filter((each) => each !== undefined);
  if (known.length === 0) return [0, 1];
  const [first, last] = [Math.min(...known), Math.max(...known)];
  const air = Math.max(0.5, (last - first) / 80);
  return [first - air, last + air];
}

/** @param {Run} run @param {string} figure @param {number} smoothing @returns {Line[]} */
function linesOf(run, figure, smoothing) {
  const { step: x, values } = run.record.steps;
  const y = values[figure];
  if (y.every((value) => value === null)) return [];
  const line = { run: run.name, label: "", color: runColor(run), x };
  if (smoothing === 0) return [{ ...line, y, look: "line" }];
  return [
    { ...line, y, look: "faint" },
    { ...line, label: "smoothed", y: smoothed(y, smoothing), look: "line" },
  ];
}

/**
 * A mean in which each step counts `factor` times as much as the next one.
 * @param {(number | null)[]} values @param {number} factor
 */
export function smoothed(values, factor) {
  let [sum, weight] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = factor * sum + value;
    weight = factor * weight + 1;
    return sum / weight;
  });
}

/** @param {Run} run @returns {Line[]} */
function heldOut(run) {
  const { trained, ordinary } = run.record.evals;
  const line = { run: run.name, color: runColor(run) };
  return [
    { ...line, label: "held-out", x: trained.step, y: trained.values.evalLoss, look: "dashed" },
    { ...line, label: "held-out, exported", x: ordinary.step, y: ordinary.values.evalLoss, look: "points" },
  ];
}

/** @param {Run} run @returns {Line[]} */
function planned(run) {
  const { step } = run.record.steps;
  const bytes = run.about.planned?.peakBytes;
  if (typeof bytes !== "number" || step.length === 0) return [];
  const ends = [...new Set([step[0], step[step.length - 1]])];
  return [{ run: run.name, label: "planned", color: runColor(run), x: ends, y: ends.map(() => bytes), look: "dashed" }];
}
