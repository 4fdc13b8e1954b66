// A bench's rows as text for people: time and peak relative to checkpointing, memory by term, and memory against depth.
import { formatBytes, formatNumber, formatTable } from "../format.js";
import type { BenchResult } from "./bench.js";
import type { BenchRow } from "./rows.js";

/** "momentum 0.25", "ordinary". */
const networkName = ({ coupling, gamma }: BenchRow): string =>
  gamma === null ? coupling : `${coupling} ${formatNumber(gamma)}`;

/**
 * What distinguishes a line from others of one depth: method, network, and optimizer and length if there are several.
 */
function lineName(row: BenchRow, rows: BenchRow[]): string {
  const several = (of: (row: BenchRow) => unknown): boolean => new Set(rows.map(of)).size > 1;
  const extra = [
    several((each) => each.optimizer) && row.optimizer,
    several((each) => each.tokens) && `${row.tokens} tokens`,
  ];
  return [`${row.method}, ${networkName(row)}`, ...extra].filter((part) => part !== false).join(", ");
}

/** The row to compare with: checkpointing of the same work, with the ordinary network if that was run. */
function baseline(row: BenchRow, rows: BenchRow[]): BenchRow | undefined {
  const same = rows.filter(
    ({ method, layers, maxLength, optimizer }) =>
      method === "checkpoint" && layers === row.layers && maxLength === row.maxLength && optimizer === row.optimizer,
  );
  return (
    same.find(({ coupling }) => coupling === "ordinary") ?? same.find((each) => networkName(each) === networkName(row))
  );
}

const bytes = (value: number | null): string => (value === null ? "-" : formatBytes(value));

function ratio(value: number | null, base: number | null | undefined): string {
  return value === null || !base ? "-" : `${(value / base).toFixed(2)}x`;
}

/** "out of memory" or "failed"; the reason of a failure is below the tables. */
export const shortStatus = ({ status }: BenchRow): string => status.split(":")[0];

function errorWords(error: number | null): string {
  return error === null ? "-" : error === 0 ? "0" : error.toExponential(1);
}

export function describeBench({ rows, engine, device, model, steps, notes }: BenchResult): string {
  const cells = new Map<string, BenchRow[]>();
  for (const row of rows) {
    const title = `${row.layers} blocks, ${row.tokens} tokens a step`;
    cells.set(title, [...(cells.get(title) ?? []), row]);
  }
  const failed = rows.filter(({ status }) => status.startsWith("failed"));
  const failures = failed.map((row) => `${lineName(row, rows)}, ${row.layers} blocks: ${row.status}`);
  const machine =
    engine === null
      ? []
      : [
          `libtorch ${engine.version} on ${device}, ${engine.threads} thread(s), computing in ${engine.computeDtype}, weights in ${engine.weightsDtype}`,
        ];
  return [
    [
      `model: ${model}`,
      ...machine,
      `times: medians of ${steps} step(s), after one that is not counted; rows take turns`,
    ].join("\n"),
    ...[...cells].flatMap(([title, cell]) => [
      `${title}\n${timeTable(cell, rows)}`,
      `Memory of a step at its peak, by term\n${memoryTable(cell, rows)}`,
    ]),
    ...(cells.size > 1 ? depthTables(rows) : []),
    [...notes.map((note) => `note: ${note}`), ...failures].join("\n"),
  ]
    .filter((part) => part !== "")
    .join("\n\n");
}

function timeTable(cell: BenchRow[], rows: BenchRow[]): string {
  const header = [
    "",
    "step",
    "of checkpoint",
    "tokens/s",
    "activations",
    "of checkpoint",
    "peak",
    "of checkpoint",
    "gradient error",
  ];
  return formatTable(
    header,
    cell.map((row) => {
      if (row.status !== "ok") return [lineName(row, rows), shortStatus(row)];
      const base = baseline(row, rows);
      return [
        lineName(row, rows),
        row.stepMs === null ? "-" : `${row.stepMs.toFixed(0)} ms`,
        ratio(row.stepMs, base?.stepMs),
        row.tokensPerSecond?.toFixed(0) ?? "-",
        bytes(row.activationBytes),
        ratio(row.activationBytes, base?.activationBytes),
        bytes(row.peakBytes),
        ratio(row.peakBytes, base?.peakBytes),
        errorWords(row.gradRelativeError),
      ];
    }),
  );
}

const TERMS: [string, keyof BenchRow][] = [
  ["weights", "weightBytes"],
  ["optimizer", "stateBytes"],
  ["gradient", "gradientBytes"],
  ["streams", "streamBytes"],
  ["kept for backward", "keptBytes"],
  ["working set", "workBytes"],
  ["= peak", "peakBytes"],
  ["of it bits", "bitBytes"],
  ["in host memory", "hostBytes"],
  ["process", "rssPeakBytes"],
];

function memoryTable(cell: BenchRow[], rows: BenchRow[]): string {
  return formatTable(
    ["", ...TERMS.map(([name]) => name)],
    cell.map((row) => [lineName(row, rows), ...TERMS.map(([, term]) => bytes(row[term] as number | null))]),
  );
}

/** Activation peaks by depth, a line per method; empty if there is only one depth. */
function depthTables(rows: BenchRow[]): string[] {
  const depths = [...new Set(rows.map(({ layers }) => layers))].sort((a, b) => a - b);
  if (depths.length < 2) return [];
  const lines = linesByDepth(rows).map(({ name, points }) => {
    const known = points.filter(({ activationBytes }) => activationBytes !== null);
    const [first, last] = [known.at(0), known.at(-1)];
    const rise = Number(last?.activationBytes) - Number(first?.activationBytes);
    const slope = known.length < 2 ? "-" : formatBytes(rise / (last!.layers - first!.layers));
    const at = (depth: number): string => {
      const row = points.find(({ layers }) => layers === depth);
      return row?.status === "ok" ? bytes(row.activationBytes) : row === undefined ? "-" : shortStatus(row);
    };
    return [name, ...depths.map(at), slope];
  });
  const header = ["", ...depths.map((depth) => `${depth} blocks`), "each further block"];
  return [
    `Activation peak (the step's peak above what was alive before it) against depth\n${formatTable(header, lines)}`,
  ];
}

/** Rows that differ only in depth, in the order of depth. */
export function linesByDepth(rows: BenchRow[]): { name: string; points: BenchRow[] }[] {
  const lines = new Map<string, BenchRow[]>();
  for (const row of rows) {
    const name = lineName(row, rows);
    lines.set(name, [...(lines.get(name) ?? []), row]);
  }
  return [...lines].map(([name, points]) => ({ name, points: points.sort((a, b) => a.layers - b.layers) }));
}
