// Memory of the step that needed most, by term, beside the plan: two bars with one scale, and the numbers.
import { byId, make, show, swatch } from "./dom.js";
import * as format from "./format.js";
import { TERMS } from "./record.js";

const NAMES = ["Weights", "Optimizer state", "Gradient", "Streams", "Kept for backward", "Teacher", "Working set"];
const ABOUT = [
  "Parameters of the model, where they lie on the device",
  "What the optimizer remembers of each parameter",
  "The largest gradient that is alive at once",
  "Hidden states that pass from block to block",
  "Kept from the forward pass: stored bits, routing, inputs of blocks",
  "Hidden states of the teacher, until the loss",
  "The rest: activations of one block, tiles of loss and optimizer",
];

/** @typedef {Record<string, number>} Terms */

/** @param {import("./store.js").Run} run */
export function updateMemory({ record, about }) {
  const measured = record.highest && record.highest.peakBytes > 0 ? /** @type {Terms} */ (record.highest) : null;
  const planned = /** @type {Terms | null} */ (about.planned);
  const hasTerms = measured !== null && typeof measured.weightBytes === "number";
  byId("memory-note").textContent = measured ? `step ${format.whole(measured.step)}` : "";
  const body = byId("memory-body");
  if (!measured && !planned)
    return show(body, [make("p", { class: "none" }, "Nothing yet: this comes with the first step.")]);
  const all = [measured, planned].filter((each) => each !== null);
  const top = Math.max(...all.map(({ peakBytes }) => peakBytes));
  const bars = [
    ...(hasTerms ? [bar("Measured", measured, top)] : []),
    ...(planned ? [bar("Planned", planned, top)] : []),
  ];
  const older =
    measured && !hasTerms
      ? [
          make(
            "p",
            { class: "none" },
            "This run was made by an earlier version, which wrote the peak without its terms.",
          ),
        ]
      : [];
  return show(body, [make("div", { class: "bars" }, ...bars), table(measured, planned), ...older]);
}

/** @param {string} name @param {Terms} terms @param {number} top */
function bar(name, terms, top) {
  const parts = TERMS.map((term, i) => {
    const part = make("span", { title: `${NAMES[i]}: ${format.bytes(terms[term])}` });
    part.style.setProperty("width", `${(100 * Math.max(0, terms[term])) / top}%`);
    part.style.setProperty("background", `var(--term-${i})`);
    return part;
  });
  return make(
    "div",
    { class: "stack-row" },
    make("span", { class: "stack-name" }, name),
    make("div", { class: "stack", "aria-hidden": "true" }, ...parts),
  );
}

/** @param {Terms | null} measured @param {Terms | null} planned */
function table(measured, planned) {
  const isThere = (/** @type {string} */ term) => (measured?.[term] ?? 0) !== 0 || (planned?.[term] ?? 0) !== 0;
  const row = (
    /** @type {string} */ term,
    /** @type {string} */ about,
    /** @type {string} */ kind,
    /** @type {(Node | string)[]} */ ...name
  ) => {
    const [took, meant] = [measured?.[term], planned?.[term]];
    const isBoth = typeof took === "number" && typeof meant === "number";
    const values = [format.bytes(took), format.bytes(meant), isBoth ? difference(took - meant) : "–"];
    return make(
      "tr",
      { title: about },
      make("th", { scope: "row", class: `cell label ${kind}` }, ...name),
      ...values.map((value) => make("td", { class: `cell number ${kind}` }, value)),
    );
  };
  const columns = ["Term", "Measured", "Planned", "Difference"].map((name, i) =>
    make("th", { scope: "col", class: `cell column ${i > 0 ? "number" : ""}` }, name),
  );
  return make(
    "table",
    { class: "numbers" },
    make("thead", {}, make("tr", {}, ...columns)),
    make(
      "tbody",
      {},
      ...TERMS.flatMap((term, i) => (isThere(term) ? [row(term, ABOUT[i], "", swatch(`--term-${i}`), NAMES[i])] : [])),
    ),
    make("tfoot", {}, row("peakBytes", "Most bytes of tensors alive at once in the step", "total", "Peak")),
  );
}

/** @param {number} bytes */
const difference = (bytes) => (bytes === 0 ? "none" : `${bytes > 0 ? "+" : "−"}${format.bytes(Math.abs(bytes))}`);
