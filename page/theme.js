// Light, dark, or the system's theme. The browser keeps the choice.
import { byId } from "./dom.js";

const ORDER = ["system", "light", "dark"];
const KEY = "revmoe-theme";

/** @param {() => void} changed @returns {() => void} goes on to the next */
export function switchTheme(changed) {
  const button = byId("theme");
  let theme = ORDER.find((each) => each === localStorage.getItem(KEY)) ?? "system";
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    changed();
  };
  const next = () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    localStorage.setItem(KEY, theme);
    apply();
  };
  button.addEventListener("click", next);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  apply();
  return next;
}
