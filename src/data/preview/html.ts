// Rows and their summary as one HTML page, without scripts and without anything from elsewhere. Each token is a box
// with its id; trained tokens are green. All text is escaped.
import type { ShownRow } from "./shown-rows.js";
import type { TokenText } from "./token-text.js";
import { rowTitle } from "./words.js";

const STYLE = `body { font: 15px/1.6 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; background: #fff }
pre { font: 13px/1.5 ui-monospace, monospace; background: #f6f6f6; padding: 1rem; overflow-x: auto }
.row { white-space: pre-wrap; overflow-wrap: anywhere; font: 14px/1.7 ui-monospace, monospace; border: 1px solid #ddd; padding: .6rem }
.row span { border-right: 1px solid #0002 }
.t { background: #c9efcf } .s { color: #777 } .t.s { color: #176a2b }
h2 { font-size: 1rem; margin: 1.6rem 0 .4rem }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } pre { background: #222 } .row { border-color: #444 } .row span { border-color: #fff4 } .t { background: #1d4a27 } .t.s { color: #8fd6a0 } }`;

export function rowsPage(title: string, summary: readonly string[], rows: readonly ShownRow[]): string {
  const shown = rows.map(
    (row) => `<h2>${escaped(rowTitle(row))}</h2>\n<div class="row">${row.texts().map(tokenSpan).join("")}</div>`,
  );
  return [
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
    `<title>${escaped(title)}</title><style>${STYLE}</style></head><body>`,
    `<h1>${escaped(title)}</h1>`,
    `<pre>${escaped(summary.join("\n"))}</pre>`,
    '<p><span class="t">Green</span>: the loss is taken where this token is the one predicted. A box is a token; hold the pointer on it for its id.</p>',
    ...shown,
    "</body></html>\n",
  ].join("\n");
}

function tokenSpan({ id, text, trained, special }: TokenText): string {
  const classes = [trained ? "t" : "", special ? "s" : ""].filter(Boolean).join(" ");
  return `<span title="${id}"${classes === "" ? "" : ` class="${classes}"`}>${escaped(text)}</span>`;
}

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
