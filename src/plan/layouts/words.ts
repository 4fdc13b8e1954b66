// Layouts of ranks in words: a table, and the one to take.
import { formatBytes, formatDuration, formatTable } from "../../format.js";
import { trainFlags } from "../words.js";
import type { PlannedLayout } from "./times.js";

/** What of a layout a reader compares, as plain data. */
export function layoutAsData({ layout, plan, fits, computing, exchange, hidden, seconds }: PlannedLayout) {
  const { gradient_accumulation_steps: steps, per_device_train_batch_size: rows, max_length } = plan.settings;
  const tokensPerSecond = (plan.ranks.count * steps * rows * max_length) / seconds;
  const times = { computing, exchange, hidden, seconds, tokensPerSecond };
  return { name: layout.name, settings: layout.change, ...plan.placed, ...times, fits };
}

/** `model` as a person named it; the layout to take is said where one fits. */
export function layoutsTable(layouts: readonly PlannedLayout[], model: string): string {
  const header = ["layout", "memory", "files", "computing", "link", "hidden", "a step", "tokens/s"];
  const time = (seconds: number): string => `~${formatDuration(1000 * seconds)}`;
  const rows = layouts.map((each) => {
    const { name, deviceBytes, diskBytes, computing, exchange, hidden, seconds, tokensPerSecond, fits } =
      layoutAsData(each);
    return [
      fits ? name : `${name} (does not fit)`,
      formatBytes(deviceBytes),
      diskBytes === 0 ? "" : formatBytes(diskBytes),
      ...[computing, exchange].map(time),
      `${Math.round(100 * hidden)} %`,
      time(seconds),
      String(Number(tokensPerSecond.toPrecision(2))),
    ];
  });
  const [best] = layouts;
  const table = formatTable(header, rows);
  if (!best?.fits) return table;
  const { settings, ranks } = best.plan;
  return `${table}\n\nthe fastest that fits, on each of the ${ranks.count} ranks (revmoe launch starts them): ${trainFlags({ ...settings, model })}`;
}
