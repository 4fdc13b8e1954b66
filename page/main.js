// Puts the page together: every panel gets what is new in the store; controls change the view.
import { courseCharts } from "./course.js";
import { byId } from "./dom.js";
import { expertMap } from "./experts.js";
import { updateMemory } from "./memory.js";
import { listenToKeys } from "./shortcuts.js";
import { Store } from "./store.js";
import { listenToRunList, updateRunList, updateSummary } from "./summary.js";
import { updateLog, updateSamples, updateSettings } from "./texts.js";
import { switchTheme } from "./theme.js";

const view = { smoothing: 0, log: false };
const store = new Store(update);
const course = courseCharts(byId("chart-grid"));
const experts = expertMap();

function update() {
  const { detail, runs, trouble, folders } = store;
  byId("trouble").hidden = trouble === "";
  byId("trouble").textContent = trouble;
  byId("where").textContent = folders.join(", ");
  byId("empty").hidden = !store.loaded || detail !== null || trouble !== "";
  byId("content").hidden = detail === null;
  updateRunList(store);
  if (detail === null) return;
  const shown = runs.filter((run) => run.shown);
  document.title = `${detail.name} · RevMoE`;
  updateSummary(detail);
  course.update(shown, detail, view);
  updateMemory(detail);
  experts.update(detail);
  updateSamples(detail);
  updateLog(detail);
  updateSettings(detail, shown);
}

listenToRunList(store);
byId("smoothing").addEventListener("input", () => {
  view.smoothing = Number(byId("smoothing").value);
  byId("smoothing-value").textContent = view.smoothing === 0 ? "off" : view.smoothing.toFixed(2);
  update();
});
byId("log-scale").addEventListener("change", () => {
  view.log = byId("log-scale").checked;
  update();
});
for (const id of ["samples-prompt", "log-warnings", "settings-differ"]) byId(id).addEventListener("change", update);
byId("settings-filter").addEventListener("input", update);
const nextTheme = switchTheme(update);

/** @param {number} by */
function go(by) {
  const { runs, detail } = store;
  const next = detail && runs[(runs.indexOf(detail) + by + runs.length) % runs.length];
  if (next) store.setDetail(next);
}

const sections = ["charts", "memory", "experts", "samples", "log", "settings"];
listenToKeys([
  { keys: ["j", "k"], about: "Next run in detail, or the one before it", run: (key) => go(key === "j" ? 1 : -1) },
  {
    keys: ["x"],
    about: "Show or hide this run in the charts",
    run: () => store.detail && store.setShown(store.detail, !store.detail.shown),
  },
  {
    keys: sections.map((_, i) => String(i + 1)),
    about: `Go to ${sections.join(", ")}`,
    run: (key) => byId(sections[Number(key) - 1]).focus(),
  },
  { keys: ["/"], about: "Filter the settings", run: () => byId("settings-filter").focus() },
  { keys: ["l"], about: "Log scale, on or off", run: () => byId("log-scale").click() },
  { keys: ["t"], about: "Theme: system, light, dark", run: nextTheme },
]);
document.addEventListener("keydown", ({ key }) => key === "Escape" && course.showAll());
store.refresh();
