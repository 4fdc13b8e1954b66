// Activation memory against depth as an SVG: a line per method, readable on light and on dark paper, with text as text.
// A row that ran out of memory is a cross at the upper edge.
import { formatBytes } from "../format.js";
import type { BenchRow } from "./rows.js";
import { linesByDepth, shortStatus } from "./table.js";

const WIDTH = 760;
const PLOT = { left: 78, top: 56, width: 650, height: 300 };
const LEGEND_LINE = 19;
// Colours that most colour-blind readers can distinguish, of medium lightness; shapes and dashes help the others.
const COLORS = ["#3b82c4", "#d9822b", "#2a9d74", "#c2528b", "#8a6fd1", "#a08a1f"];
const DASHES = ["", "7 4", "2 3"];
// One grey that is readable on white and on black, since some viewers do not know their background.
const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #777; }
  .title { font-size: 15px; font-weight: 600; }
  .axis { stroke: #888; fill: none; }
  .grid { stroke: #8884; fill: none; }
`;

/** The rows need at least two depths; `subtitle` says what was run. */
export function depthChart(rows: BenchRow[], subtitle: string): string {
  const lines = linesByDepth(rows);
  const depths = [...new Set(rows.map(({ layers }) => layers))].sort((a, b) => a - b);
  const most = Math.max(1, ...rows.map(({ activationBytes }) => activationBytes ?? 0));
  const stepBytes = niceStep(most / 5);
  const topBytes = Math.ceil(most / stepBytes) * stepBytes;
  const x = (layers: number): number =>
    PLOT.left + ((layers - depths[0]) / (depths[depths.length - 1] - depths[0])) * PLOT.width;
  const y = (bytes: number): number => PLOT.top + PLOT.height * (1 - bytes / topBytes);
  const bottom = PLOT.top + PLOT.height;
  const legendTop = bottom + 62;
  const height = legendTop + lines.length * LEGEND_LINE;

  const ticksY = Array.from({ length: Math.round(topBytes / stepBytes) + 1 }, (_, i) => i * stepBytes).flatMap(
    (bytes) => [
      `<path class="grid" d="M${PLOT.left} ${px(y(bytes))}h${PLOT.width}"/>`,
      label(PLOT.left - 8, y(bytes) + 4, bytes === 0 ? "0" : formatBytes(bytes).replace(/\.0+ /, " "), "end"),
    ],
  );
  const ticksX = depths.flatMap((depth) => [
    `<path class="axis" d="M${px(x(depth))} ${bottom}v5"/>`,
    label(x(depth), bottom + 20, String(depth), "middle"),
  ]);
  const drawn = lines.map(({ name, points }, i) => {
    const stroke = `stroke="${COLORS[i % COLORS.length]}"`;
    const dash = DASHES[Math.floor(i / COLORS.length) % DASHES.length];
    const known = points.filter(({ activationBytes }) => activationBytes !== null);
    const at = ({ layers, activationBytes }: BenchRow): [number, number] => [x(layers), y(activationBytes as number)];
    const path = known.map((point, j) => `${j === 0 ? "M" : "L"}${at(point).map(px).join(" ")}`).join("");
    const style = `${stroke} stroke-width="2" fill="none"${dash === "" ? "" : ` stroke-dasharray="${dash}"`}`;
    const legendY = legendTop + i * LEGEND_LINE;
    return [
      "<g>",
      ...(path === "" ? [] : [`<path d="${path}" ${style}/>`]),
      ...known.map((point) => mark(i, at(point), stroke)),
      ...points
        .filter(({ status }) => status !== "ok")
        .map(({ layers }) => cross(x(layers) + (i - lines.length / 2) * 4, PLOT.top, stroke)),
      `<path d="M${PLOT.left} ${legendY - 4}h30" ${style}/>`,
      mark(i, [PLOT.left + 15, legendY - 4], stroke),
      label(PLOT.left + 40, legendY, legendWords(name, points), "start"),
      "</g>",
    ].join("\n");
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>Activation memory against depth</title>`,
    `<style>${STYLE}</style>`,
    `<text class="title" x="${PLOT.left}" y="18">Activation memory of a training step against depth</text>`,
    label(PLOT.left, 35, subtitle, "start"),
    ...ticksY,
    ...ticksX,
    `<path class="axis" d="M${PLOT.left} ${PLOT.top}V${bottom}h${PLOT.width}"/>`,
    label(PLOT.left + PLOT.width / 2, bottom + 38, "blocks", "middle"),
    ...drawn,
    "</svg>\n",
  ].join("\n");
}

/** "store, ordinary: 575 MiB at 4 blocks, out of memory at 48". */
function legendWords(name: string, points: BenchRow[]): string {
  const last = points[points.length - 1];
  const figure = last.activationBytes === null ? shortStatus(last) : formatBytes(last.activationBytes);
  return `${name}: ${figure} at ${last.layers} blocks`;
}

/** 1, 2, 4, 8, ... of a binary unit, since bytes are counted in doublings. */
const niceStep = (bytes: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, bytes)));

const px = (value: number): string => String(Math.round(value * 10) / 10);

function label(x: number, y: number, text: string, anchor: "start" | "middle" | "end"): string {
  const escaped = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return `<text x="${px(x)}" y="${px(y)}" text-anchor="${anchor}">${escaped}</text>`;
}

function mark(index: number, [x, y]: [number, number], stroke: string): string {
  const fill = stroke.replace("stroke", "fill");
  if (index % 3 === 0) return `<circle cx="${px(x)}" cy="${px(y)}" r="4" ${fill}/>`;
  if (index % 3 === 1) return `<path d="M${px(x - 4)} ${px(y - 4)}h8v8h-8z" ${fill}/>`;
  return `<path d="M${px(x)} ${px(y - 5)}l5 9h-10z" ${fill}/>`;
}

const cross = (x: number, y: number, stroke: string): string =>
  `<path d="M${px(x - 5)} ${px(y - 5)}l10 10m0 -10l-10 10" ${stroke} stroke-width="2"/>`;
