// How tokens spread over the experts, layer by layer, over the steps: a map of cells that we draw on a canvas. Arrow
// keys and the pointer read single cells. If there are more steps than pixels, a cell shows the most uneven of its
// steps.
import { byId, make, colorOf } from "./dom.js";
import * as format from "./format.js";

/** @typedef {import("./store.js").Run} Run @typedef {import("./record.js").Load} Load */

/** A measure is 0 for an even spread; the colours' end is at `top` or above. */
const MEASURES = [
  {
    name: "Busiest expert",
    of: (/** @type {any} */ each) => each.maxOverMean - 1,
    top: 1,
    say: (/** @type {number} */ value) => `${(value + 1).toFixed(2)} × its even share`,
    ends: ["1 ×", (/** @type {number} */ top) => `${(top + 1).toFixed(1)} ×`],
  },
  {
    name: "Experts without a token",
    of: (/** @type {any} */ each) => each.dead,
    top: 1,
    say: (/** @type {number} */ value) => `${value} without a token`,
    ends: ["0", (/** @type {number} */ top) => String(top)],
  },
];
const [LEFT, BOTTOM, TALLEST] = [56, 22, 16];
const SHADES = 5;

export function expertMap() {
  const canvas = make("canvas", { tabindex: 0, role: "img" });
  const tip = make("div", { class: "tip", hidden: true });
  const low = make("span", {});
  const high = make("span", {});
  const key = make("p", { class: "key scale" }, low, make("span", { class: "ramp", "aria-hidden": "true" }), high);
  const reading = make("p", { class: "key", "aria-live": "polite" });
  const place = make("div", { class: "map" }, canvas, tip);
  const none = make("p", { class: "none" });
  byId("experts-body").append(none, place, key, reading);
  const choice = byId("experts-measure");
  choice.append(...MEASURES.map(({ name }, i) => make("option", { value: i }, name)));
  /** @type {Run | null} */
  let run = null;
  let at = { column: 0, row: 0 };
  /** Whether a person chose the cell; if not, it is in the newest column. */
  let isChosen = false;
  const draw = () => drawMap(canvas, run?.record.load ?? [], MEASURES[choice.value], { low, high });
  choice.addEventListener("change", draw);
  new ResizeObserver(() => run && draw()).observe(place);

  const read = (/** @type {{ column: number, row: number }} */ cell) => {
    const load = run?.record.load ?? [];
    const column = clamp(cell.column, load.length);
    const { step, layers } = load[column];
    at = { column, row: clamp(cell.row, layers.length) };
    const found = layers[at.row];
    reading.textContent = `Step ${step.toLocaleString("en-US")}, layer ${found.layer}: busiest expert ${MEASURES[0].say(MEASURES[0].of(found))}; ${MEASURES[1].say(found.dead)}`;
  };
  canvas.addEventListener("pointermove", (event) => {
    const load = run?.record.load ?? [];
    const { width, height } = canvas.getBoundingClientRect();
    if (load.length === 0 || event.offsetX < LEFT || event.offsetY > height - BOTTOM) return;
    const column = Math.floor(((event.offsetX - LEFT) / (width - LEFT)) * load.length);
    isChosen = true;
    read({ column, row: Math.floor((event.offsetY / (height - BOTTOM)) * load[0].layers.length) });
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (move === undefined || !run) return;
    event.preventDefault();
    isChosen = true;
    read({ column: at.column + move[0], row: at.row + move[1] });
  });
  return {
    /** @param {Run} of */
    update: (of) => {
      if (run !== of) isChosen = false;
      run = of;
      const { load, steps } = of.record;
      none.hidden = load.length > 0;
      place.hidden = key.hidden = reading.hidden = choice.hidden = load.length === 0;
      none.textContent =
        steps.step.length > 0
          ? "This model has no layers with experts."
          : "Nothing yet: this comes with the first step.";
      if (load.length === 0) return;
      read(isChosen ? at : { column: load.length - 1, row: 0 });
      canvas.setAttribute(
        "aria-label",
        `Spread of tokens over experts: ${load[0].layers.length} layers, ${load.length} steps. Arrow keys read single cells.`,
      );
      draw();
    },
  };
}

const clamp = (/** @type {number} */ value, /** @type {number} */ count) => Math.max(0, Math.min(count - 1, value));

/** @param {HTMLCanvasElement} canvas @param {Load[]} load @param {typeof MEASURES[number]} measure @param {{ low: Element, high: Element }} ends */
function drawMap(canvas, load, measure, { low, high }) {
  const layers = load[0]?.layers ?? [];
  const width = canvas.parentElement?.clientWidth ?? 0;
  if (width === 0 || layers.length === 0) return;
  const height = Math.max(150, Math.min(420, layers.length * TALLEST * 2)) + BOTTOM;
  const ratio = window.devicePixelRatio;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.setProperty("height", `${height}px`);
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.scale(ratio, ratio);
  const columns = Math.min(load.length, Math.floor(width - LEFT));
  const values = Array.from({ length: columns }, (_, i) => {
    const some = load.slice(Math.floor((i * load.length) / columns), Math.floor(((i + 1) * load.length) / columns));
    return layers.map((_layer, row) => Math.max(...some.map((each) => measure.of(each.layers[row] ?? {}) || 0)));
  });
  const top = values.flat().reduce((most, value) => Math.max(most, value), measure.top);
  low.textContent = `${measure.ends[0]} (even)`;
  high.textContent = /** @type {(top: number) => string} */ (measure.ends[1])(top);
  const shades = Array.from({ length: SHADES }, (_, i) => rgbOf(colorOf(`--heat-${i}`)));
  const [wide, tall] = [(width - LEFT) / columns, (height - BOTTOM) / layers.length];
  for (const [i, column] of values.entries()) {
    for (const [row, value] of column.entries()) {
      pen.fillStyle = blend(shades, value / top);
      pen.fillRect(LEFT + i * wide, row * tall, wide + 0.5, tall - 1);
    }
  }
  drawLabels(pen, { load, layers, wide: (width - LEFT) / load.length, tall, height });
}

/** @param {CanvasRenderingContext2D} pen @param {{ load: Load[], layers: { layer: number }[], wide: number, tall: number, height: number }} map */
function drawLabels(pen, { load, layers, wide, tall, height }) {
  pen.fillStyle = colorOf("--muted");
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  const everyLayer = Math.ceil(14 / tall);
  for (const [row, { layer }] of layers.entries())
    if (row % everyLayer === 0)
      pen.fillText(row === 0 ? `layer ${layer}` : String(layer), LEFT - 6, (row + 0.5) * tall);
  const everyStep = Math.max(1, Math.ceil(70 / wide));
  for (const [column, { step }] of load.entries()) {
    const isNearEnd = (load.length - column) * wide < 20;
    if (column % everyStep !== 0 || isNearEnd) continue;
    pen.textAlign = column === 0 ? "left" : "center";
    pen.fillText(
      column === 0 ? `step ${step}` : format.whole(step),
      LEFT + (column + (column === 0 ? 0 : 0.5)) * wide,
      height - BOTTOM / 2 + 2,
    );
  }
}

/** The numbers of "rgb(r, g, b)". @param {string} color */
const rgbOf = (color) => (color.match(/[\d.]+/g) ?? []).slice(0, 3).map(Number);

/** @param {number[][]} shades @param {number} share from 0 to 1 */
function blend(shades, share) {
  const place = Math.max(0, Math.min(1, share)) * (shades.length - 1);
  const from = Math.min(shades.length - 2, Math.floor(place));
  const mixed = shades[from].map((value, i) => Math.round(value + (shades[from + 1][i] - value) * (place - from)));
  return `rgb(${mixed.join(" ")})`;
}
