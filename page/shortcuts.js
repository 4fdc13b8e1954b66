// Single keys for what is done often. They do nothing while something is typed, nor together with Ctrl, Alt or Cmd.
import { byId, make } from "./dom.js";

/** @param {Record<string, { about: string, run: () => void }>} shortcuts by key */
export function listenToKeys(shortcuts) {
  const dialog = byId("shortcuts");
  const all = { ...shortcuts, "?": { about: "Show this list", run: () => dialog.showModal() } };
  const more = [
    ["← → Home End", "Read single steps, in a chart that has the focus"],
    ["Esc", "Show all steps again"],
    ["Tab", "Go to the next control or chart"],
  ];
  const rows = [...Object.entries(all).map(([key, { about }]) => [key, about]), ...more];
  byId("shortcut-list").append(
    ...rows.flatMap(([keys, about]) => [
      make("dt", {}, ...keys.split(" ").flatMap((key) => [make("kbd", {}, key), " "])),
      make("dd", {}, about),
    ]),
  );
  byId("help").addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (event) => {
    const isTyping =
      /** @type {Element} */ (event.target).closest("input:not([type=checkbox]), select, textarea, dialog") !== null;
    if (isTyping || event.ctrlKey || event.altKey || event.metaKey) return;
    const found = Object.hasOwn(all, event.key) ? all[event.key] : undefined;
    if (found === undefined) return;
    event.preventDefault();
    found.run();
  });
}
