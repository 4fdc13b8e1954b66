// Makes elements of the page without markup: text from runs stays text and never becomes HTML.

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag @param {Record<string, unknown>} [attributes] `class`, `on...` listeners, and attributes; false and undefined leave one out
 * @param {...(Node | string | number)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

/** The element with this id, which index.html has. @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** A small square in a run's or a term's colour. @param {string} color a custom property, as "--run-0" */
export function swatch(color) {
  const square = make("span", { class: "swatch", "aria-hidden": "true" });
  square.style.setProperty("background", `var(${color})`);
  return square;
}

const probe = make("span", { hidden: true });

/**
 * The present colour of the style sheet, light or dark, for a canvas: "rgb(r, g, b)".
 * @param {string} color a custom property
 */
export function colorOf(color) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.setProperty("color", `var(${color})`);
  return getComputedStyle(probe).color;
}

/**
 * Replaces the children only if they would look different, so that focus and selection stay.
 * @param {Element} parent @param {Node[]} children
 */
export function show(parent, children) {
  const made = make("div", {}, ...children);
  if (made.innerHTML !== parent.innerHTML) parent.replaceChildren(...made.childNodes);
}
