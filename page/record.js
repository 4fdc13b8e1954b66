// What the page knows of a run's metrics: events become columns, one for each figure, in the form that charts take. If
// a run goes back to an earlier step, the record forgets what came after it.

/**
 * @typedef {{ kind: string, step: number, [name: string]: any }} RunEvent
 * @typedef {{ step: number[], values: Record<string, (number | null)[]> }} Columns
 * @typedef {{ step: number, layers: { layer: number, maxOverMean: number, entropy: number, dead: number }[] }} Load
 */

const STEP_FIGURES = [
  "loss",
  "meanTokenAccuracy",
  "learningRate",
  "gradNorm",
  "tokensPerSecond",
  "stepMs",
  "peakBytes",
  "epoch",
  "auxLoss",
  "zLoss",
];
const EVAL_FIGURES = ["evalLoss", "evalMeanTokenAccuracy"];
export const TERMS = [
  "weightBytes",
  "stateBytes",
  "gradientBytes",
  "streamBytes",
  "keptBytes",
  "teacherBytes",
  "workBytes",
];

export class RunRecord {
  constructor() {
    /** @type {Columns} */
    this.steps = columns(STEP_FIGURES);
    /** Held-out rows, on the network as it is trained and as the ordinary one. @type {Record<string, Columns>} */
    this.evals = { trained: columns(EVAL_FIGURES), ordinary: columns(EVAL_FIGURES) };
    /** @type {Load[]} */
    this.load = [];
    /** @type {RunEvent[]} */
    this.samples = [];
    /** @type {RunEvent[]} */
    this.messages = [];
    /** The step with the highest peak. @type {RunEvent | null} */
    this.highest = null;
    this.lines = 0;
    /** Numbers, from 1, of lines that are not events. @type {number[]} */
    this.broken = [];
  }

  /** @param {{ events: RunEvent[], lines: number, broken: number[] }} piece */
  add({ events, lines, broken }) {
    this.broken.push(...broken.map((line) => this.lines + line));
    this.lines += lines;
    for (const event of events) this.#take(event);
  }

  /** @param {RunEvent} event */
  #take(event) {
    if (event.kind === "step") {
      if (event.step <= (this.steps.step.at(-1) ?? -1)) this.#forgetFrom(event.step);
      append(this.steps, event);
      if (event.expertLoad?.length > 0) this.load.push({ step: event.step, layers: event.expertLoad });
      if (typeof event.peakBytes === "number" && event.peakBytes >= (this.highest?.peakBytes ?? 0))
        this.highest = { ...event, expertLoad: undefined };
    } else if (event.kind === "eval" && Object.hasOwn(this.evals, event.network)) {
      const to = this.evals[event.network];
      // The final network may be measured once more at the end.
      if (to.step.at(-1) === event.step) cut(to, event.step);
      append(to, event);
    } else if (event.kind === "sample") this.samples.push(event);
    else if (event.kind === "message") this.messages.push(event);
  }

  /** @param {number} step */
  #forgetFrom(step) {
    for (const each of [this.steps, this.evals.trained, this.evals.ordinary]) cut(each, step);
    this.load = this.load.filter((each) => each.step < step);
    this.samples = this.samples.filter((each) => each.step < step);
  }
}

/** @param {string[]} names @returns {Columns} */
const columns = (names) => ({ step: [], values: Object.fromEntries(names.map((name) => [name, []])) });

/** @param {Columns} to @param {RunEvent} event */
function append({ step, values }, event) {
  step.push(event.step);
  for (const [name, column] of Object.entries(values))
    column.push(typeof event[name] === "number" ? event[name] : null);
}

/** Removes the ends of columns, from step `from` on. @param {Columns} of @param {number} from */
function cut({ step, values }, from) {
  const found = step.findIndex((each) => each >= from);
  if (found < 0) return;
  for (const column of [step, ...Object.values(values)]) column.length = found;
}
