// Plans side by side as an SVG: a bar per method, stacked by term. Legible on light and on dark paper, text as text.
import { formatBytes } from "../format.js";
import type { Compared } from "./compare.js";
import { partsOf } from "./words.js";

const WIDTH = 760;
const PLOT = { left: 190, top: 56, width: 480 };
const BAR = { height: 20, step: 31 };
const LEGEND_COLUMNS = 4;
// Told apart by most colour-blind readers too; neighbours differ in lightness.
const COLORS: Record<string, string> = {
  weights: "#5b6f88",
  "optimizer state": "#9db2c9",
  gradient: "#2a9d74",
  streams: "#d9822b",
  "stored bits": "#c2528b",
  routing: "#8a6fd1",
  "block inputs": "#e0a3c3",
  hints: "#e0a3c3",
  graphs: "#a93226",
  "working set": "#3b82c4",
};
const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #777; }
  .title { font-size: 15px; font-weight: 600; }
  .grid { stroke: #8884; fill: none; }
`;

/** `subtitle` says what is planned. */
export function planChart(compared: Compared[], subtitle: string): string {
  const most = Math.max(1, ...compared.map(({ plan }) => plan.terms.peakBytes));
  const stepBytes = 2 ** Math.floor(Math.log2(most / 3));
  const topBytes = Math.ceil(most / stepBytes) * stepBytes;
  const wide = (bytes: number): number => (bytes / topBytes) * PLOT.width;
  const bottom = PLOT.top + compared.length * BAR.step;
  const names = [
    ...new Set(
      compared.flatMap(({ plan }) =>
        partsOf(plan)
          .filter(({ bytes }) => bytes > 0)
          .map(({ name }) => name),
      ),
    ),
  ];
  const legendTop = bottom + 42;
  const height = legendTop + Math.ceil(names.length / LEGEND_COLUMNS) * 20;
  const ticks = Array.from({ length: topBytes / stepBytes + 1 }, (_, i) => i * stepBytes).flatMap((bytes) => {
    const x = px(PLOT.left + wide(bytes));
    return [
      `<path class="grid" d="M${x} ${PLOT.top - 6}V${bottom}"/>`,
      label(
        PLOT.left + wide(bytes),
        bottom + 16,
        bytes === 0 ? "0" : formatBytes(bytes).replace(/\.0+ /, " "),
        "middle",
      ),
    ];
  });
  const bars = compared.flatMap(({ name, plan }, i) => {
    const y = PLOT.top + i * BAR.step;
    let x = PLOT.left;
    const pieces = partsOf(plan).map((part) => {
      const width = wide(Math.max(0, part.bytes));
      const piece = `<rect x="${px(x)}" y="${y}" width="${px(width)}" height="${BAR.height}" fill="${COLORS[part.name]}"><title>${part.name}: ${formatBytes(part.bytes)}</title></rect>`;
      x += width;
      return piece;
    });
    return [
      label(PLOT.left - 8, y + 15, name, "end"),
      ...pieces,
      label(x + 6, y + 15, formatBytes(plan.terms.peakBytes), "start"),
    ];
  });
  const legend = names.flatMap((name, i) => {
    const [x, y] = [20 + (i % LEGEND_COLUMNS) * 180, legendTop + Math.floor(i / LEGEND_COLUMNS) * 20];
    return [
      `<rect x="${x}" y="${y - 10}" width="12" height="12" fill="${COLORS[name]}"/>`,
      label(x + 18, y, name, "start"),
    ];
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    "<title>Planned memory of a training step by method</title>",
    `<style>${STYLE}</style>`,
    '<text class="title" x="20" y="18">Planned memory of a training step</text>',
    label(20, 36, subtitle, "start"),
    ...ticks,
    ...bars,
    ...legend,
    "</svg>\n",
  ].join("\n");
}

const px = (value: number): string => String(Math.round(value * 10) / 10);

function label(x: number, y: number, text: string, anchor: "start" | "middle" | "end"): string {
  const escaped = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return `<text x="${px(x)}" y="${px(y)}" text-anchor="${anchor}">${escaped}</text>`;
}
