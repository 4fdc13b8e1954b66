// A plan in words: one line by term, a list for people who plan, a table of several, and the flags for `train`.
import { formatBytes, formatTable } from "../format.js";
import { keptOf } from "../reversible/couplings/registry.js";
import { METHODS } from "../reversible/methods/registry.js";
import { TRAIN_ROWS, type TrainSettings } from "../train/settings/rows.js";
import { flagOf } from "../settings/table.js";
import type { Compared } from "./compare.js";
import type { Plan } from "./plan.js";

/** Parts of a plan's peak, in the order of how long they live. */
export function partsOf({ terms, kept, settings }: Plan): { name: string; bytes: number }[] {
  const method = METHODS[settings.method];
  const other = (method.rebuilds ? keptOf(settings.coupling) : undefined) ?? method.kept;
  return [
    { name: "weights", bytes: terms.weightBytes },
    { name: "optimizer state", bytes: terms.stateBytes },
    { name: "gradient", bytes: terms.gradientBytes },
    { name: "streams", bytes: terms.streamBytes },
    { name: "stored bits", bytes: kept.bitBytes },
    { name: "routing", bytes: kept.routingBytes },
    { name: other, bytes: kept.otherBytes },
    { name: "working set", bytes: terms.workBytes },
  ];
}

/** "4.67 GiB = 1.39 GiB weights + ...; highest in: feed-forward, backward" */
export function planLine(plan: Plan): string {
  const parts = partsOf(plan).filter(({ bytes }) => bytes > 0);
  const sum = parts.map(({ name, bytes }) => `${formatBytes(bytes)} ${name}`).join(" + ");
  return `${formatBytes(plan.terms.peakBytes)} = ${sum}; highest in: ${plan.spans[0].name}`;
}

/** `processBytes`: what the process takes in main memory beside all that is planned. */
export function describePlan(plan: Plan, processBytes: number): string {
  const { settings, spans, placed, terms, ranks } = plan;
  const above = spans.map(({ name, bytes }) => ({ name, bytes: bytes - terms.weightBytes - terms.stateBytes }));
  const {
    per_device_train_batch_size: rows,
    max_length: length,
    gradient_accumulation_steps: steps,
    device,
  } = settings;
  const host = placed.hostBytes > 0 ? `, and ${formatBytes(placed.hostBytes)} in main memory` : "";
  const disk = placed.diskBytes > 0 ? `, and ${formatBytes(placed.diskBytes)} in files` : "";
  const shown = (entries: { name: string; bytes: number }[]): string[][] =>
    entries.map(({ name, bytes }) => [name, formatBytes(bytes)]);
  return [
    `a step of ${steps} micro-batch${steps === 1 ? "" : "es"} of ${rows} x ${length} tokens, ${settings.method}, ${settings.coupling}, ${settings.optimizer}`,
    `takes ${formatBytes(placed.deviceBytes)} on ${device}${host}${disk}`,
    ...(ranks.count > 1
      ? [
          `as one of ${ranks.count} ranks, each of which sends ${formatBytes(ranks.sentBytes)} to others in the mean`,
          ...ranks.notes,
        ]
      : []),
    `and about ${formatBytes(processBytes)} of main memory for Node, the engine and freed blocks kept for reuse`,
    "",
    formatTable(["by term", ""], shown(partsOf(plan).filter(({ bytes }) => bytes > 0))),
    "",
    formatTable(["highest above weights and state, by span", ""], shown(above)),
  ].join("\n");
}

export function compareTable(compared: Compared[]): string {
  const header = ["method, coupling", "weights", "state", "gradient", "streams", "kept", "working set", "peak"];
  const rows = compared.map(({ name, plan: { terms } }) => [
    name,
    ...[
      terms.weightBytes,
      terms.stateBytes,
      terms.gradientBytes,
      terms.streamBytes,
      terms.keptBytes,
      terms.workBytes,
    ].map(formatBytes),
    formatBytes(terms.peakBytes),
  ]);
  return formatTable(header, rows);
}

/** "parameters: disk, tile_tokens: 512", as in a settings file. */
export const settingWords = (change: Partial<TrainSettings>): string =>
  Object.entries(change)
    .map(([name, value]) => `${name}: ${value}`)
    .join(", ");

/** The command line of `train` with these settings: what differs from the defaults. */
export function trainFlags(settings: TrainSettings): string {
  const flags = Object.entries(TRAIN_ROWS).flatMap(([name, row]) => {
    const value = settings[name as keyof TrainSettings];
    if (
      name === "train_file" ||
      name === "output_dir" ||
      value === (row as { default?: unknown }).default ||
      typeof value === "object"
    )
      return [];
    if (typeof value === "boolean") return [value ? flagOf(name) : flagOf(`no_${name}`)];
    return [`${flagOf(name)} ${value}`];
  });
  return `revmoe train ${flags.join(" ")} --train-file FILE --output-dir FOLDER`;
}
