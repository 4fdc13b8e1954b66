// The settings of `bench`, put together: its rows, its checks, and how they are read.
import { parseBytes } from "../format.js";
import { tooManyTokens } from "../settings/limits.js";
import { COUPLINGS_WITH_GAMMA, DEFAULT_COUPLING } from "../reversible/couplings/registry.js";
import type { Given, SettingsTable } from "../settings/table.js";
import { resolveTable } from "../settings/resolve.js";
import { casesOf } from "./cases.js";
import { isCpu } from "../torch/device.js";
import { BENCH_ROWS, type BenchSettings } from "./setting-rows.js";

export type { BenchSettings } from "./setting-rows.js";

export const BENCH_TABLE: SettingsTable<typeof BENCH_ROWS> = {
  rows: BENCH_ROWS,
  elsewhere: {
    method: "Use methods.",
    max_steps: "Use steps.",
    gpus: "Use device.",
    output_dir: "Nothing is saved; use json, or svg for a drawing.",
  },
  check: checkBench,
};

/** Settings of `bench` from those that differ from the defaults; refuses what the command line would refuse. */
export function resolveBench(given: Partial<BenchSettings> & Pick<BenchSettings, "model">): BenchSettings {
  return resolveTable(BENCH_TABLE, { flags: given }).settings;
}

function checkBench(settings: BenchSettings, at: Given): string | undefined {
  const tooMany = tooManyTokens(settings.per_device_train_batch_size, Math.max(...settings.max_length), at);
  if (tooMany !== false) return tooMany;
  const cases = casesOf(settings);
  for (const [name, values, used] of [
    ["methods", settings.methods, cases.map(({ method }) => method)],
    ["coupling", settings.coupling.filter((name) => name !== "auto"), cases.map(({ coupling }) => coupling)],
  ] as const) {
    const idle = (values as readonly string[]).find((value) => !(used as string[]).includes(value));
    const other = name === "methods" ? "coupling" : "methods";
    if (idle !== undefined) {
      return (
        `${at.subject(name)}: ${idle} has no row with ${at.mention(other)}: the ordinary network cannot be reversed. ` +
        `Remove ${idle}, or add another to ${other}.`
      );
    }
  }
  if (at.has("gamma") && cases.every(({ gamma }) => gamma === null)) {
    return `${at.subject("gamma")} has no effect: no row has coupling ${COUPLINGS_WITH_GAMMA.join(" or ")}. Remove gamma, or add ${DEFAULT_COUPLING} to coupling.`;
  }
  if (at.has("stream") && cases.every(({ settings: { stream } }) => stream !== settings.stream)) {
    return `${at.subject("stream")} has no effect: only the ordinary network is compared. Remove stream, or add ${DEFAULT_COUPLING} to coupling.`;
  }
  if (settings.svg !== "" && settings.layers.length < 2) {
    return `${at.subject("svg")} has nothing to draw: memory against depth needs two depths. Give them, as layers 4,24,48.`;
  }
  if (settings.memory_limit !== "" && !isCpu(settings.device)) {
    return `${at.subject("memory_limit")} has no effect: it limits the cpu, not ${at.mention("device")}. Remove one of the two.`;
  }
  if (settings.memory_limit !== "" && parseBytes(settings.memory_limit) === 0) {
    return `${at.subject("memory_limit")} leaves no memory (expected a size such as 8GiB). Remove it for no limit.`;
  }
  return undefined;
}
