// What the quickstart's small model cannot show by itself: the memory of deep networks and long rows with each method,
// and how a model of 14 billion parameters is trained on this machine. All of it is planned; nothing is loaded.
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { formatBytes, formatCount, formatDuration } from "../../format.js";
import { readConfigFile } from "../../checkpoint/folder.js";
import { readArchitecture } from "../../families/registry.js";
import { parameterCount, placedParameters } from "../../model/model.js";
import { ORDINARY } from "../../network/description.js";
import type { Compared } from "../../plan/compare.js";
import { readGeometry } from "../../plan/geometry.js";
import { planStep } from "../../plan/plan.js";
import { resolverOf } from "../../plan/settings.js";
import { type Machine, machineOf } from "../../plan/ways/machine.js";
import { findWays, type Way } from "../../plan/ways/ways.js";
import { describeMachine } from "../../plan/ways/words.js";
import { resolveSettings } from "../../train/settings/settings.js";

const EXAMPLES = fileURLToPath(new URL("../../../examples/", import.meta.url));
const SMALL = join(EXAMPLES, "tiny-moe/config.json");
const LARGE = join(EXAMPLES, "released/qwen1.5-moe-a2.7b/config.json");

const BLOCKS = 48;
const TOKENS = 32_768;
/** Tokens of a row of the large model. */
const LARGE_TOKENS = 1024;

const METHODS: readonly Readonly<Record<string, string>>[] = [
  { method: "store", coupling: ORDINARY.coupling },
  { method: "checkpoint", coupling: ORDINARY.coupling },
  { method: "reversible" },
];

/**
 * Plans of a step of the quickstart's model with 48 blocks, on one row of 32,768 tokens, with each method; the largest
 * first.
 */
export function deepPlans(): Compared[] {
  const { config, path } = readConfigFile(SMALL);
  const architecture = readArchitecture(
    { ...config, num_hidden_layers: BLOCKS, max_position_embeddings: TOKENS },
    path,
  );
  const work = { model: SMALL, train_file: "-", output_dir: "-", max_length: TOKENS, per_device_train_batch_size: 1 };
  return METHODS.map((way) => {
    const { settings } = resolveSettings({ flags: { ...work, ...way } });
    return { name: way.method, plan: planStep(settings, { architecture, dtypeOf: () => "bfloat16" }) };
  });
}

export const deepTitle = `${BLOCKS} blocks of the quickstart's model, one row of ${TOKENS.toLocaleString("en")} tokens`;

const COLUMNS = 44;

/** Bars for a terminal, in two parts: what is kept for the backward pass, and the rest. */
export function bars(compared: readonly Compared[]): string {
  const most = Math.max(...compared.map(({ plan }) => plan.terms.peakBytes));
  const wide = (bytes: number): number => Math.round((bytes / most) * COLUMNS);
  const width = Math.max(...compared.map(({ name }) => name.length));
  const lines = compared.map(({ name, plan: { terms } }) => {
    const kept = wide(terms.keptBytes);
    const bar = "█".repeat(kept) + "░".repeat(Math.max(1, wide(terms.peakBytes) - kept));
    return `${name.padEnd(width)}  ${bar} ${formatBytes(terms.peakBytes)}`;
  });
  return [...lines, `${" ".repeat(width)}  █ kept for the backward pass  ░ weights, optimizer, working set`].join("\n");
}

/** Two sentences about the plans. */
export function deepWords([store, checkpoint, reversible]: readonly Compared[]): string[] {
  const kept = ({ plan }: Compared): string => formatBytes(plan.terms.keptBytes);
  const peak = ({ plan }: Compared): string => formatBytes(plan.terms.peakBytes);
  return [
    `For its backward pass a step keeps ${kept(store)} if everything is stored, ${kept(checkpoint)} with checkpoints, and ${kept(reversible)} with reversible blocks.`,
    `At its peak it takes ${peak(store)}, ${peak(checkpoint)} and ${peak(reversible)}: counted by running the step on an engine that knows sizes and computes nothing.`,
  ];
}

/** One sentence about a model of 14 billion parameters; `folder` is on the disk where its parameters would lie. */
export function largeWords(folder: string, device = "cpu"): string {
  const given = { model: LARGE, parameters: "disk", max_length: LARGE_TOKENS, per_device_train_batch_size: 1, device };
  const asked = new Set(Object.keys(given));
  const resolve = resolverOf(given, asked);
  const geometry = readGeometry(resolve({}));
  const machine = machineOf({ gpu: "", memory: "", disk: "", device, folder });
  const parameters = formatCount(parameterCount(placedParameters(geometry.architecture)));
  return sentence(
    `Qwen1.5-MoE-A2.7B, all ${parameters} parameters`,
    machine,
    findWays(resolve, geometry, machine, asked)[0],
  );
}

/** `way` is undefined if none fits. */
export function sentence(model: string, machine: Machine, way: Way | undefined): string {
  if (way === undefined)
    return `${model}, would not fit this machine (${describeMachine(machine)}), not even with its weights in files.`;
  const { placed, settings } = way.plan;
  return (
    `${model}, trains on this machine with its weights in files: ${formatBytes(placed.deviceBytes)} of memory, ${formatBytes(placed.diskBytes)} of disk, ` +
    `an estimated ${formatDuration(1000 * way.seconds)} a step of ${settings.max_length.toLocaleString("en")} tokens (${settings.optimizer}, ${settings.method}).`
  );
}
