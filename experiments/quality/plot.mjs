// The study's plot as SVG text. Left: mean held-out loss of the exported network over steps. Right: its final distance
// from ordinary fine-tuning, with one standard deviation over seeds; distances above FURTHEST percent are drawn at the
// edge. Curves whose final distance is above LEFT_OUT percent do not stretch the left part; they leave it at its top.
const HEIGHT = 380;
const FURTHEST = 2;
const LEFT_OUT = 25;
const BOX = { top: 40, bottom: 330, left: [60, 380], right: [600, 840] };
const COLORS = [
  "#222222",
  "#1b6ca8",
  "#d1495b",
  "#2e8b57",
  "#8e5ea2",
  "#c98b1f",
  "#5bb0d6",
  "#e58f8f",
  "#7a7a7a",
  "#a65628",
  "#3f8f8b",
  "#b07aa1",
];

/** `lines`: name, curve of [step, loss], gap and its error in percent. */
export function plot(lines) {
  const parts = [...curves(lines), ...gaps(lines)];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 ${HEIGHT}" font-family="sans-serif" font-size="11" fill="#333">
<rect width="900" height="${HEIGHT}" fill="#fff"/>
${parts.join("\n")}
</svg>
`;
}

function curves(lines) {
  const points = lines.filter(({ gap }) => gap < LEFT_OUT).flatMap(({ curve }) => curve);
  const losses = points.map(([, loss]) => loss);
  const x = scale([0, Math.max(...points.map(([step]) => step))], BOX.left);
  const y = scale([Math.min(...losses) - 0.02, Math.max(...losses) + 0.02], [BOX.bottom, BOX.top]);
  const [left, right] = BOX.left;
  const parts = [
    `<clipPath id="left"><rect x="${left}" y="${BOX.top}" width="${right - left}" height="${BOX.bottom - BOX.top}"/></clipPath>`,
    text(BOX.left[0], 24, "held-out loss (exported) against steps"),
    ...axis(x, BOX.bottom, "h", 0),
    ...axis(y, BOX.left[0], "v", 2),
  ];
  for (const [i, { curve }] of [...lines.entries()].reverse()) {
    const path = curve.map(([step, loss]) => `${x.at(step).toFixed(1)},${y.at(loss).toFixed(1)}`).join(" ");
    parts.push(
      `<polyline points="${path}" fill="none" stroke="${color(i)}" stroke-width="${i === 0 ? 2.5 : 1.3}" clip-path="url(#left)"/>`,
    );
  }
  return parts;
}

function gaps(lines) {
  const reach = lines
    .flatMap(({ gap, error }) => [gap - error, gap + error])
    .map((percent) => Math.min(percent, FURTHEST));
  const inside = scale([Math.min(0, ...reach) - 0.1, Math.max(...reach) + 0.1], BOX.right);
  const x = { ...inside, at: (percent) => inside.at(Math.min(percent, FURTHEST)) };
  const parts = [
    text(420, 24, "at the end, exported: % above ordinary fine-tuning (bar: ± 1 s.d.)"),
    ...axis(x, BOX.bottom, "h", 1),
  ];
  parts.push(
    `<line x1="${x.at(0)}" x2="${x.at(0)}" y1="${BOX.top}" y2="${BOX.bottom}" stroke="#222" stroke-dasharray="3 3"/>`,
  );
  for (const [i, { name, gap, error }] of lines.entries()) {
    const y = BOX.top + ((i + 0.5) * (BOX.bottom - BOX.top)) / lines.length;
    parts.push(text(BOX.right[0] - 12, y + 4, gap > FURTHEST ? `${name} (+${gap.toFixed(1)} %)` : name, "end"));
    parts.push(
      `<line x1="${x.at(gap - error)}" x2="${x.at(gap + error)}" y1="${y}" y2="${y}" stroke="${color(i)}" stroke-width="2"/>`,
    );
    parts.push(`<circle cx="${x.at(gap)}" cy="${y}" r="4" fill="${color(i)}"/>`);
  }
  return parts;
}

function axis({ at, domain: [low, high] }, place, direction, digits) {
  return Array.from({ length: 6 }, (_, i) => {
    const value = low + ((high - low) * i) / 5;
    const label = value.toFixed(digits);
    if (direction === "h") return text(at(value), place + 16, label, "middle");
    const line = `<line x1="${place}" x2="${BOX.left[1]}" y1="${at(value)}" y2="${at(value)}" stroke="#e4e4e4"/>`;
    return line + text(place - 6, at(value) + 4, label, "end");
  });
}

/** @param {[number, number]} domain @param {number[]} range */
function scale(domain, [from, to]) {
  return { domain, at: (value) => from + ((value - domain[0]) / (domain[1] - domain[0])) * (to - from) };
}

const color = (i) => COLORS[i % COLORS.length];
const text = (x, y, words, anchor = "start") => `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`;
