// Samples of text, the log and the settings of the run in detail.
import { byId, make, show, swatch } from "./dom.js";

/** @typedef {import("./store.js").Run} Run */

const MOST_SAMPLES = 60;

/**
 * A step, and the words about it. @param {number | null} step @param {string} kind @param {...(Node | string)} words
 */
const entry = (step, kind, ...words) =>
  make(
    "li",
    { class: `entry ${kind}` },
    make("span", { class: "at" }, step === null ? "" : `Step ${step.toLocaleString("en-US")}`),
    make("p", {}, ...words),
  );

/** A text with marks instead of line breaks, so that samples can be compared at a glance. @param {string} text */
const inOneParagraph = (text) =>
  text.split("\n").flatMap((line, i) => (i === 0 ? [line] : [make("span", { class: "prompt" }, " ↵ "), line]));

/** How the network continues a prompt, the newest text first. @param {Run} run */
export function updateSamples({ record: { samples } }) {
  const choice = byId("samples-prompt");
  const prompts = [...new Set(samples.map(({ prompt }) => prompt))];
  choice.hidden = prompts.length < 2;
  show(
    choice,
    prompts.map((prompt) => make("option", {}, prompt.length > 60 ? `${prompt.slice(0, 60)}…` : prompt)),
  );
  const prompt = prompts[Math.max(0, choice.selectedIndex)];
  const ours = samples.filter((each) => each.prompt === prompt).slice(-MOST_SAMPLES);
  const rows = ours
    .toReversed()
    .map(({ step, text }) => entry(step, "", make("span", { class: "prompt" }, prompt), ...inOneParagraph(text)));
  const none = [
    make("p", { class: "none" }, "This run takes no samples. To see what the network writes as it learns, train with:"),
    make("pre", {}, make("code", {}, '--sample-prompts "Call me" --sample-steps 20')),
  ];
  show(byId("samples-body"), rows.length > 0 ? [make("ol", { class: "samples" }, ...rows)] : none);
}

/** @param {Run} run */
export function updateLog({ record, about }) {
  const warningsOnly = byId("log-warnings").checked;
  const of = (/** @type {string} */ message) => ({ level: "warning", message, step: null });
  const rows = [
    ...about.notes.map(of),
    ...(record.broken.length === 0 ? [] : [of(brokenLines(record.broken))]),
    ...record.messages.toReversed(),
  ]
    .filter(({ level }) => !warningsOnly || level === "warning")
    .map(({ level, message, step }) =>
      level === "warning" ? entry(step, "warning", make("strong", {}, "Warning: "), message) : entry(step, "", message),
    );
  const none = make("p", { class: "none" }, warningsOnly ? "No warnings." : "No messages yet.");
  show(byId("log-body"), rows.length > 0 ? [make("ol", { class: "lines" }, ...rows)] : [none]);
}

/** @param {number[]} broken */
function brokenLines(broken) {
  const [first] = broken;
  const which =
    broken.length === 1
      ? `line ${first} of metrics.jsonl is`
      : `${broken.length} lines of metrics.jsonl, the first of them line ${first}, are`;
  return `${which} no event and left out (expected a JSON object as training writes it). The rest is shown.`;
}

/**
 * Shows settings of the run in detail, and of the other runs that are shown. @param {Run} detail @param {Run[]} shown
 */
export function updateSettings(detail, shown) {
  const runs = [detail, ...shown.filter((run) => run !== detail)].filter((run) => run.about.settings !== null);
  byId("settings-differ-label").hidden = runs.length < 2;
  const wanted = byId("settings-filter").value.trim().toLowerCase();
  const differOnly = byId("settings-differ").checked && runs.length > 1;
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.about.settings)))];
  const rows = names.flatMap((name) => {
    const values = runs.map((run) => textOf(run.about.settings[name]));
    const differ = new Set(values).size > 1;
    const isWanted = `${name} ${values.join(" ")}`.toLowerCase().includes(wanted) && (differ || !differOnly);
    if (!isWanted) return [];
    const cells = values.map((value) => make("td", { class: `cell ${value ? "" : "unset"}` }, value || "not set"));
    const label = make("th", { scope: "row", class: "cell label" }, ...breakable(name));
    return [{ differ, row: make("tr", { class: differ && "differ" }, label, ...cells) }];
  });
  // Settings that differ come first; the others keep the order of the settings.
  const sorted = rows.toSorted((a, b) => Number(b.differ) - Number(a.differ)).map(({ row }) => row);
  const columns = runs.map((run) =>
    make("th", { scope: "col", class: "cell column" }, swatch(`--run-${run.color}`), run.name),
  );
  const head = make(
    "thead",
    {},
    make("tr", {}, make("th", { scope: "col", class: "cell column" }, "Setting"), ...columns),
  );
  const none = make(
    "p",
    { class: "none" },
    runs.length === 0 ? "config.json, which has the settings, is not there yet." : "No setting is like this.",
  );
  show(
    byId("settings-body"),
    rows.length === 0 ? [none] : [make("table", { class: "settings" }, head, make("tbody", {}, ...sorted))],
  );
}

/** A name that may wrap to the next line after each underscore. @param {string} name */
const breakable = (name) => name.split(/(?<=_)/).flatMap((part) => [part, make("wbr")]);

/** @param {unknown} value */
const textOf = (value) => (typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value));
