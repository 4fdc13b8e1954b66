// Single keys for frequent actions. They do nothing while a person types, nor together with Ctrl, Alt or Cmd.
import { byId, make } from "./dom.js";

/** @typedef {{ keys: string[], about: string, run: (key: string) => void }} Shortcut */

/** Text about keys that controls handle themselves. */
const ALSO = [
  { keys: ["←", "→", "Home", "End"], about: "Read single steps, in a chart that has the focus" },
  { keys: ["Esc"], about: "Show all steps again" },
];

/** @param {Shortcut[]} shortcuts */
export function listenToKeys(shortcuts) {
  const dialog = byId("shortcuts");
  const all = [...shortcuts, { keys: ["?"], about: "Show this list", run: () => dialog.showModal() }];
  const rows = [...all, ...ALSO].flatMap(({ keys, about }) => [
    make("dt", {}, ...keys.flatMap((key) => [make("kbd", {}, key), " "])),
    make("dd", {}, about),
  ]);
  byId("shortcut-list").append(...rows);
  byId("help").addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (event) => {
    const isTyping =
      /** @type {Element} */ (event.target).closest("input:not([type=checkbox]), select, textarea, dialog") !== null;
    if (isTyping || event.ctrlKey || event.altKey || event.metaKey) return;
    const found = all.find(({ keys }) => keys.includes(event.key));
    if (found === undefined) return;
    event.preventDefault();
    found.run(event.key);
  });
}
