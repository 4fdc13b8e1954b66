// Ways in words: a table of the best, and the command of each.
import { formatBytes, formatDuration, formatTable } from "../../format.js";
import { isCpu } from "../../torch/device.js";
import { STORES } from "../../store/registry.js";
import { flagOf } from "../../settings/table.js";
import { TRAIN_ROWS, type TrainSettings } from "../../train/settings/rows.js";
import { trainFlags } from "../words.js";
import type { Machine } from "./machine.js";
import type { Way } from "./ways.js";

/** "RTX 4090 with 23.5 GiB, 64.0 GiB of main memory, 500 GiB of disk" */
export const describeMachine = ({ card, memoryBytes, diskBytes }: Machine): string =>
  [
    ...(card === null ? [] : [`${card.name} with ${formatBytes(card.bytes)} free`]),
    `${formatBytes(memoryBytes)} of main memory`,
    `${formatBytes(diskBytes)} of disk`,
  ].join(", ");

const tokensOf = ({
  gradient_accumulation_steps: steps,
  per_device_train_batch_size: rows,
  max_length: length,
}: TrainSettings): number => steps * rows * length;

/** What of a way a reader compares, as numbers. */
export function figuresOf({ plan, seconds }: Way) {
  const { settings, placed } = plan;
  const tokensPerSecond = tokensOf(settings) / seconds;
  return { ...placed, seconds, tokensPerSecond, hoursPerMillionTokens: 1e6 / tokensPerSecond / 3600 };
}

/** "host, 12 blocks stay; checkpoint; adafactor" */
export function nameOf({
  parameters,
  blocks_on_device: blocks,
  method,
  coupling,
  optimizer,
  expert_group_size: group,
}: TrainSettings): string {
  const where =
    STORES[parameters].lies === "device" ? [] : [`weights in ${parameters === "disk" ? "files" : "main memory"}`];
  return [
    optimizer,
    method === "reversible" ? `${method} (${coupling})` : method,
    ...where,
    ...(blocks > 0 ? [`${blocks} blocks stay`] : []),
    ...(group > 0 ? [`experts by ${group}`] : []),
  ].join(", ");
}

/** What a way may change. */
export const CHANGED = [
  ...(["parameters", "blocks_on_device", "method", "coupling", "gamma", "optimizer"] as const),
  ...(["per_device_train_batch_size", "gradient_accumulation_steps"] as const),
  ...(["expert_group_size", "tile_tokens", "loss_tile_tokens"] as const),
];

/** Of what a way may change, what it has changed. */
export const changesBetween = (from: TrainSettings, to: TrainSettings): Partial<TrainSettings> =>
  Object.fromEntries(CHANGED.filter((name) => from[name] !== to[name]).map((name) => [name, to[name]]));

/** As flags, what differs from the defaults, but for how rows are split. */
export const changesOf = (settings: TrainSettings): string =>
  CHANGED.filter((name) => !name.includes("batch") && !name.includes("accumulation"))
    .filter((name) => settings[name] !== TRAIN_ROWS[name].default)
    .map((name) => `${flagOf(name)} ${settings[name]}`)
    .join(" ");

export function waysTable(ways: readonly Way[], model: string): string {
  const onCard = ways.some(({ plan }) => !isCpu(plan.settings.device));
  const header = ["way", ...(onCard ? ["card"] : []), "memory", "files", "a step", "tokens/s", "1 M tokens"];
  const rows = ways.map((way, i) => {
    const { deviceBytes, hostBytes, diskBytes, seconds, tokensPerSecond, hoursPerMillionTokens } = figuresOf(way);
    const bytes = (each: number): string => (each === 0 ? "" : formatBytes(each));
    return [
      `${i + 1} ${nameOf(way.plan.settings)}`,
      ...(onCard ? [bytes(deviceBytes), bytes(hostBytes)] : [bytes(deviceBytes)]),
      bytes(diskBytes),
      `~${formatDuration(1000 * seconds)}`,
      String(Number(tokensPerSecond.toPrecision(2))),
      `~${formatDuration(3.6e6 * hoursPerMillionTokens)}`,
    ];
  });
  const commands = ways.flatMap(({ plan, quality }, i) => [
    `${i + 1}${quality === "" ? "" : ` (${quality})`}:`,
    `  ${trainFlags({ ...plan.settings, model })}`,
  ]);
  return [formatTable(header, rows), "", ...commands].join("\n");
}
