// The list of runs, and the figures of the run in detail.
import { byId, make, show, swatch } from "./dom.js";
import * as format from "./format.js";

/** @typedef {import("./store.js").Run} Run */

/** @param {Run} run */
const stateOf = ({ about }) =>
  about.active ? "Training" : about.finished ? "Finished" : about.updatedAt === null ? "Not begun" : "Stopped";

/** @param {Run} run */
const stepOf = ({ record, about }) => {
  const done = record.steps.step.at(-1);
  if (done === undefined) return "";
  return about.totalSteps ? `${format.whole(done)} of ${format.whole(about.totalSteps)}` : format.whole(done);
};

/** @param {import("./store.js").Store} store */
export function updateRunList(store) {
  const items = store.runs.map((run) => {
    const box = make("input", {
      type: "checkbox",
      checked: run.shown,
      "aria-label": `Show ${run.name} in the charts`,
      "data-run": run.id,
    });
    const state = make("span", { class: `state ${stateOf(run).toLowerCase().replace(" ", "-")}` }, stateOf(run));
    const name = make(
      "button",
      { type: "button", title: run.dir, "aria-pressed": String(run === store.detail), "data-run": run.id },
      make("span", { class: "name" }, run.name),
      make("span", { class: "about" }, state, stepOf(run) && ` · step ${stepOf(run)}`),
    );
    return make(
      "li",
      { class: run === store.detail ? "chosen" : false },
      make("label", { class: "pick" }, box, swatch(`--run-${run.color}`)),
      name,
    );
  });
  show(byId("run-list"), items);
  show(
    byId("notes"),
    store.notes.map((note) => make("li", { class: "note" }, note)),
  );
}

/** Listens for choices in the list. @param {import("./store.js").Store} store */
export function listenToRunList(store) {
  const find = (/** @type {Event} */ event) =>
    store.runs.find(
      ({ id }) => id === /** @type {HTMLElement} */ (event.target).closest("[data-run]")?.getAttribute("data-run"),
    );
  byId("run-list").addEventListener("change", (/** @type {Event} */ event) => {
    const run = find(event);
    const { checked } = /** @type {HTMLInputElement} */ (event.target);
    // A click changes only the property, but the list is compared by its markup, so the attribute is set here.
    /** @type {HTMLInputElement} */ (event.target).toggleAttribute("checked", checked);
    if (run) store.setShown(run, checked);
  });
  byId("run-list").addEventListener("click", (/** @type {Event} */ event) => {
    const run = find(event);
    if (run && /** @type {HTMLElement} */ (event.target).closest("button")) store.setDetail(run);
  });
}

/** @param {Run} run */
export function updateSummary(run) {
  const { record, about } = run;
  const { values, step } = record.steps;
  byId("detail-name").textContent = run.name;
  const seen = about.updatedAt === null ? "" : `, last line ${format.ago(Date.now() - about.updatedAt)}`;
  const result =
    !about.active && !about.finished && about.updatedAt !== null
      ? "; no process trains here, and there is no result"
      : "";
  byId("detail-state").textContent = `${stateOf(run)}${seen}${result}`;
  const done = step.at(-1) ?? 0;
  const progress = byId("progress");
  progress.hidden = !about.totalSteps;
  progress.setAttribute("aria-valuemax", about.totalSteps ?? 0);
  progress.setAttribute("aria-valuenow", done);
  progress.firstElementChild.style.setProperty("width", `${(100 * done) / (about.totalSteps || 1)}%`);
  const held = record.evals.trained.values.evalLoss;
  const [first, last] = [held[0], held.at(-1)];
  const stepMs = median(values.stepMs.slice(-9));
  const left = about.active && about.totalSteps ? stepMs * (about.totalSteps - done) : null;
  const took = values.stepMs.reduce((/** @type {number} */ sum, each) => sum + (each ?? 0), 0);
  const plan = about.planned?.peakBytes;
  const figures = [
    ["Step", stepOf(run) || "–", epochs(values.epoch.at(-1))],
    ["Loss", format.loss(values.loss.at(-1)), "of rows trained on"],
    [
      "Held-out loss",
      format.loss(last),
      held.length > 1 ? `from ${format.loss(first)}` : last === undefined ? "no held-out rows" : "at the start",
    ],
    [
      "Tokens per second",
      format.whole(median(values.tokensPerSecond.slice(-9))),
      `${format.duration(stepMs)} a step`.replace(/^0 s/, `${Math.round(stepMs)} ms`),
    ],
    ["Peak memory", format.bytes(record.highest?.peakBytes), plan ? `${format.bytes(plan)} planned` : "no plan"],
    left === null
      ? ["Time in steps", format.duration(took), "without evaluations"]
      : ["Time left", format.duration(left), `${format.duration(took)} so far`],
  ];
  show(
    byId("figures"),
    figures.map(([name, value, more]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, value), make("dd", { class: "more" }, more)),
    ),
  );
}

/** @param {number | null | undefined} epoch */
const epochs = (epoch) => (typeof epoch === "number" ? `${epoch.toFixed(2)} epochs` : "");

/** @param {(number | null)[]} values */
function median(values) {
  const sorted = values.filter((value) => value !== null).toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
