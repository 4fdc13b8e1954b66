// One chart: lines of several runs over steps, by uPlot, with a tooltip, and a cursor shared by all charts. Arrow keys
// move the cursor of the chart that has the focus. A double click sends the event show-all, by which every chart shows
// all steps again.
import uPlot from "./uplot.js";
import { make, colorOf, swatch } from "./dom.js";

/**
 * @typedef {object} Line
 * @property {string} run name of its run
 * @property {string} label what it shows, if a run has several lines; else empty
 * @property {string} color a custom property
 * @property {number[]} x
 * @property {(number | null)[]} y
 * @property {"line" | "faint" | "dashed" | "points"} look tooltips leave out faint lines
 */

const SYNC = uPlot.sync("step");
const DASH = [6, 4];
/** Distances between ticks on an axis of bytes. */
const BYTE_STEPS = Array.from({ length: 50 }, (_, power) => 2 ** power);

export class Chart {
  /** @type {uPlot | null} */
  #plot = null;
  #shape = "";
  /** @type {Line[]} */
  #lines = [];
  /** The first and the last step of all runs. @type {[number, number]} */
  #range = [0, 1];

  /** @param {{ title: string, about: string, format: (value: number) => string, axis?: (value: number) => string, note?: string, log?: boolean, bytes?: boolean }} what */
  constructor(what) {
    this.what = what;
    this.reading = make("p", { class: "reading" });
    this.tip = make("div", { class: "tip", hidden: true });
    this.place = make("div", {
      class: "plot",
      tabindex: 0,
      role: "slider",
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#onKey(event),
    });
    this.none = make("p", { class: "none" }, "Nothing yet: this comes with the first step.");
    const title = make("h3", { title: what.about }, what.title);
    const note = what.note ? [make("p", { class: "key" }, what.note)] : [];
    this.element = make(
      "article",
      { class: "panel chart" },
      make("div", { class: "head" }, title, this.reading),
      this.place,
      this.tip,
      this.none,
      ...note,
    );
    this.place.addEventListener("focus", () => this.#toIndex(this.#length - 1));
    this.place.addEventListener("blur", () => this.#hide());
    new ResizeObserver(() => this.#plot?.setSize(this.#size)).observe(this.place);
  }

  /** @param {Line[]} lines @param {{ log: boolean, reading: string, color: string, range: [number, number] }} options */
  update(lines, { log, reading, color, range }) {
    this.reading.replaceChildren(...(reading ? [swatch(color), reading] : []));
    this.#lines = lines.filter(({ x }) => x.length > 0);
    const isEmpty = this.#lines.length === 0;
    this.none.hidden = !isEmpty;
    this.place.hidden = isEmpty;
    this.place.setAttribute("aria-label", `${this.what.title} by steps. ${this.what.about}`);
    this.place.setAttribute("aria-valuetext", reading);
    ["min", "max"].forEach((end, i) => this.place.setAttribute(`aria-value${end}`, String(range[i])));
    if (isEmpty) return this.#drop();
    const data = /** @type {uPlot.AlignedData} */ (uPlot.join(this.#lines.map(({ x, y }) => [x, y])));
    const shape = JSON.stringify([
      log,
      colorOf("--ink"),
      this.#lines.map(({ run, label, color, look }) => [run, label, color, look]),
    ]);
    if (this.#plot && shape === this.#shape) {
      const { min = 0, max = 1 } = this.#plot.scales.x;
      const isWhole = min === this.#range[0] && max === this.#range[1];
      this.#range = range;
      this.#plot.setData(data, false);
      // The height depends on the steps that are shown.
      if (isWhole) this.showAll();
      else this.#plot.setScale("x", { min, max });
      return undefined;
    }
    this.#drop();
    this.#shape = shape;
    this.#range = range;
    this.#plot = new uPlot(this.#options(log && this.what.log === true), data, this.place);
    this.showAll();
    return undefined;
  }

  get #size() {
    return { width: this.place.clientWidth, height: this.place.clientHeight };
  }

  get #length() {
    return this.#plot?.data[0].length ?? 0;
  }

  #drop() {
    this.#plot?.destroy();
    this.#plot = null;
  }

  /** @param {boolean} log @returns {uPlot.Options} */
  #options(log) {
    const [ink, line] = [colorOf("--muted"), colorOf("--grid")];
    const axis = {
      stroke: ink,
      font: "12px system-ui, sans-serif",
      ticks: { show: false },
      grid: { stroke: line, width: 1 },
    };
    return {
      ...this.#size,
      padding: [10, 12, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: SYNC.key, scales: ["x", null] },
        bind: {
          dblclick: () => () => {
            this.place.dispatchEvent(new Event("show-all", { bubbles: true }));
            return null;
          },
        },
        drag: { x: true, y: false },
        points: { size: 7 },
        // A line without a value at this step gets no mark.
        dataIdx: (plot, line, index) => (plot.data[line][index] === undefined ? null : index),
        y: false,
      },
      scales: {
        x: { time: false, range: (_, low, high) => [low ?? 0, high ?? 1] },
        y: log
          ? { distr: 3, range: (_, low, high) => [(low ?? 1) / 1.05, (high ?? 10) * 1.05] }
          : { range: (_, low, high) => spread(this.what.bytes ? 0 : low, high) },
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 28,
          space: 60,
          values: (_, steps) => steps.map((step) => (Number.isInteger(step) ? step.toLocaleString("en-US") : "")),
        },
        {
          ...axis,
          size: 64,
          space: 34,
          ...(this.what.bytes && { incrs: BYTE_STEPS }),
          ...(log && { splits: (_, __, low, high) => logTicks(low, high), filter: (_, ticks) => ticks }),
          values: (_, values) =>
            values.map((value) => (value === null ? "" : (this.what.axis ?? this.what.format)(value))),
        },
      ],
      series: [{}, ...this.#lines.map((each) => seriesOf(each))],
      hooks: {
        setCursor: [(plot) => this.#point(plot)],
        ready: [(plot) => plot.over.addEventListener("mouseleave", () => this.#hide())],
      },
    };
  }

  #hide() {
    this.tip.hidden = true;
  }

  /** Shows the lines' values at the cursor, in the chart that is hovered or has the focus. @param {uPlot} plot */
  #point(plot) {
    const { idx, left = -1 } = plot.cursor;
    const isHere = plot.over.matches(":hover") || this.place === document.activeElement;
    if (!isHere || idx === null || idx === undefined || left < 0) return this.#hide();
    const rows = this.#lines.flatMap(({ run, label, color, look }, i) => {
      const value = plot.data[i + 1][idx];
      if (look === "faint" || value === null || value === undefined) return [];
      return [
        make(
          "tr",
          {},
          make("th", { scope: "row" }, swatch(color), label ? `${run}, ${label}` : run),
          make("td", {}, this.what.format(value)),
        ),
      ];
    });
    if (rows.length === 0) return this.#hide();
    const step = plot.data[0][idx];
    this.tip.replaceChildren(make("p", {}, `Step ${step.toLocaleString("en-US")}`), make("table", {}, ...rows));
    this.tip.hidden = false;
    this.place.setAttribute("aria-valuenow", String(step));
    this.place.setAttribute("aria-valuetext", this.tip.innerText.replaceAll(/\s+/g, " "));
    const at = plot.over.offsetLeft + plot.valToPos(step, "x") + this.place.offsetLeft;
    const isRight = at > this.element.clientWidth / 2;
    this.tip.style.setProperty("left", isRight ? "auto" : `${at + 14}px`);
    this.tip.style.setProperty("right", isRight ? `${this.element.clientWidth - at + 14}px` : "auto");
    return undefined;
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const last = this.#length - 1;
    const at = this.#plot?.cursor.idx ?? last;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#toIndex(Math.min(last, Math.max(0, to)));
  }

  /** @param {number} index */
  #toIndex(index) {
    if (!this.#plot || index < 0) return;
    this.#plot.setCursor({ left: this.#plot.valToPos(this.#plot.data[0][index], "x"), top: 20 });
  }

  showAll() {
    const [min, max] = this.#range;
    this.#plot?.setScale("x", { min, max });
  }
}

/** @param {Line} line @returns {uPlot.Series} */
function seriesOf({ look, color }) {
  const stroke = colorOf(color);
  if (look === "points")
    return { stroke, width: 0, paths: () => null, points: { show: true, size: 9, width: 2, fill: colorOf("--card") } };
  const points = { show: look === "dashed", size: 6, fill: stroke };
  return {
    stroke,
    width: look === "faint" ? 1 : 2,
    alpha: look === "faint" ? 0.35 : 1,
    dash: look === "dashed" ? DASH : undefined,
    points,
  };
}

/**
 * Adds some room above and below, also around one value.
 * @param {number | null} low @param {number | null} high @returns {[number, number]}
 */
function spread(low, high) {
  if (low === null || high === null) return [0, 1];
  const air = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [low >= 0 ? Math.max(0, low - air) : low - air, high + air];
}

/** Round values for a log scale, even if it spans less than a decade. @param {number} low @param {number} high */
function logTicks(low, high) {
  if (high / low > 10) {
    const decades = Array.from({ length: 40 }, (_, i) => 10 ** (i - 20));
    return decades.flatMap((decade) => [decade, 2 * decade, 5 * decade]).filter((tick) => tick >= low && tick <= high);
  }
  const power = 10 ** Math.floor(Math.log10((high - low) / 4));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= (high - low) / 4) ?? power;
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}
