// The settings of `plan`: those of `train` that decide memory, from its table, and what to do with the plan.
import { OPTIMIZER_MEMORY_ROWS } from "../optim/registry.js";
import { PLANNED_COUPLING_ROWS } from "../reversible/couplings/registry.js";
import { SIZE_OR_NONE } from "../settings/size.js";
import { TRAIN_ROWS, type TrainSettings } from "../train/settings/rows.js";
import { resolveSettings } from "../train/settings/settings.js";
import type { Given, SettingRows, SettingsOf, SettingsTable, SettingValue } from "../settings/table.js";
import { BYTES_A_SECOND, parseBytes, parseRate } from "../format.js";
import { isCpu } from "../torch/device.js";

const PLAN = "The plan";
const MOST_RANKS = 1024;
const row = TRAIN_ROWS;

/** Those of `train`. */
export const PLANNED_ROWS = {
  model: {
    ...row.model,
    metavar: "FOLDER|FILE",
    about:
      "folder of a Hugging Face checkpoint, a config.json by itself, a .gguf file, or a name on the hub: org/name[@revision]",
  },
  max_length: row.max_length,
  per_device_train_batch_size: row.per_device_train_batch_size,
  gradient_accumulation_steps: row.gradient_accumulation_steps,
  method: row.method,
  coupling: row.coupling,
  gamma: row.gamma,
  blocks_per_step: row.blocks_per_step,
  checkpoint_first_blocks: row.checkpoint_first_blocks,
  checkpoint_last_blocks: row.checkpoint_last_blocks,
  stored_bits: row.stored_bits,
  parameters: row.parameters,
  blocks_on_device: row.blocks_on_device,
  stream: row.stream,
  ...PLANNED_COUPLING_ROWS,
  max_grad_norm: row.max_grad_norm,
  weights_dtype: {
    ...row.weights_dtype,
    about: "data type of the weights; auto: as in the checkpoint, or as a config.json given alone says",
  },
  weights_correction: row.weights_correction,
  compute_dtype: row.compute_dtype,
  device: row.device,
  threads: row.threads,
  tile_tokens: row.tile_tokens,
  expert_group_size: row.expert_group_size,
  loss_tile_tokens: row.loss_tile_tokens,
  optimizer: row.optimizer,
  ...OPTIMIZER_MEMORY_ROWS,
  freeze: row.freeze,
  freeze_router: row.freeze_router,
  add_tokens: row.add_tokens,
  add_special_tokens: row.add_special_tokens,
  router_aux_loss_coef: row.router_aux_loss_coef,
  router_z_loss_coef: row.router_z_loss_coef,
  router_jitter_noise: row.router_jitter_noise,
  rank_sums: row.rank_sums,
  sequence_ranks: row.sequence_ranks,
  share_experts: row.share_experts,
} as const satisfies SettingRows;

export const PLAN_ROWS = {
  ...PLANNED_ROWS,
  fit: {
    kind: "boolean",
    default: false,
    group: PLAN,
    about:
      "list the ways to train on this machine, the fastest first, each with its memory, an estimate of its time, and its command",
  },
  gpu: {
    kind: "string",
    default: "",
    metavar: "NAME|SIZE",
    group: PLAN,
    about: 'list the ways for a machine with this card; a name ("RTX 4090", "H100"), or its memory (24GiB)',
  },
  memory: {
    ...SIZE_OR_NONE,
    group: PLAN,
    about:
      "list the ways for a machine with this much main memory; with largest, the limit; with link, the memory of a rank's machine",
  },
  disk: {
    ...SIZE_OR_NONE,
    group: PLAN,
    about: "list the ways for a machine with this much room on the disk; with link, on that of a rank's machine",
  },
  largest: {
    kind: "boolean",
    default: false,
    group: PLAN,
    about:
      "find the largest micro-batch of max_length rows that fits the card of gpu, or memory; if not even one row fits, the longest row that does",
  },
  ranks: {
    kind: "integer",
    default: 1,
    min: 1,
    max: MOST_RANKS,
    group: PLAN,
    about:
      "number of processes that train together; the plan is for one of them; if they share weights and state (parameters sharded), for the one that has most",
  },
  link: {
    kind: "string",
    default: "",
    metavar: "SIZE/s",
    pattern: new RegExp(`^$|${BYTES_A_SECOND.source}`, "i"),
    expected: "a speed such as 50GB/s",
    group: PLAN,
    about:
      "bytes per second that the link of one rank to the others carries; with ranks, lists the layouts that they can have, the fastest that fits first, with an estimate of a step's time",
  },
  compare: { kind: "boolean", default: false, group: PLAN, about: "show all methods side by side, on the same work" },
  svg: {
    kind: "string",
    default: "",
    metavar: "FILE",
    group: PLAN,
    about: "draw the comparison as stacked bars; needs compare",
  },
  calibrate: {
    kind: "boolean",
    default: false,
    group: PLAN,
    about: "run steps with the model's width, few blocks and random weights on this machine, to estimate a step's time",
  },
} as const satisfies SettingRows;

/** What a person wants most of the ways that fit; ways/goal.ts picks. */
export const GOALS = ["balanced", "quality", "speed", "memory"] as const;
export type Goal = (typeof GOALS)[number];

export const GOALS_ABOUT =
  "Of all ways that fit, balanced: the best one that takes at most 1.5 times as long as the fastest; quality: the fastest one that does not change " +
  "what is learnt; speed: the fastest; memory: the one that needs the least memory of the card (without a card, main memory), also with parameters " +
  "on disk; of several within a tenth of that, the fastest";

export type PlanSettings = SettingsOf<typeof PLAN_ROWS>;

export const PLAN_TABLE: SettingsTable<typeof PLAN_ROWS> = {
  rows: PLAN_ROWS,
  elsewhere: {
    train_file: "A plan needs no rows: leave it out.",
    output_dir: "A plan saves nothing: leave it out, or use svg.",
    memory_limit: "Use memory.",
  },
  check: checkPlan,
};

/** What the methods of a comparison differ in, or only some of them have. */
export const WAY_ROWS: readonly string[] = [
  ...["method", "coupling", "gamma", "blocks_per_step", "checkpoint_first_blocks", "checkpoint_last_blocks"],
  ...["stored_bits", "stream", ...Object.keys(PLANNED_COUPLING_ROWS)],
];

/** Settings of `train` that decide memory and were given, and a change of others; those not in the table have their defaults. */
export function resolverOf(
  settings: Readonly<Record<string, unknown>>,
  given: ReadonlySet<string>,
): (change: Readonly<Record<string, SettingValue>>) => TrainSettings {
  const asked = Object.entries(settings).filter(([name]) => given.has(name) && name in PLANNED_ROWS) as [
    string,
    SettingValue,
  ][];
  const flags = { ...Object.fromEntries(asked), train_file: "-", output_dir: "-" };
  return (change) => resolveSettings({ flags: { ...flags, ...change } }).settings;
}

function checkPlan(settings: PlanSettings, at: Given): string | undefined {
  if (settings.svg !== "" && !settings.compare) {
    return `${at.subject("svg")} has nothing to draw: it shows methods side by side. Add compare, or remove svg.`;
  }
  const way = settings.compare ? WAY_ROWS.find((name) => at.has(name)) : undefined;
  if (way !== undefined)
    return `${at.subject(way)} has no effect: ${at.mention("compare")} shows all of them. Remove one of the two.`;
  if (settings.calibrate && settings.compare) {
    return `${at.subject("calibrate")} times one way of training, and ${at.mention("compare")} shows all of them. Give one of the two.`;
  }
  if (settings.link !== "") {
    if (settings.ranks === 1)
      return `${at.subject("link")} has no effect: one process sends nothing. Set ranks, or remove link.`;
    if (!((parseRate(settings.link) ?? 0) > 0))
      return `${at.subject("link")} carries nothing (expected a speed such as 50GB/s). Give what it does carry.`;
    if (settings.share_experts === "auto")
      return `${at.subject("share_experts")} is of one plan, and ${at.mention("link")} compares both ways. Remove one of the two.`;
  }
  if (settings.link !== "" && settings.sequence_ranks > 1)
    return `${at.subject("link")} makes estimates for ranks with micro-batches of their own, and ${at.mention("sequence_ranks")} hold each together. Remove one of the two.`;
  // With a link they say what each rank has.
  const ofMachine = settings.link === "" ? (["memory", "disk"] as const) : [];
  const one = (["fit", "gpu", ...ofMachine, "largest", "compare", "calibrate"] as const).find((name) => at.has(name));
  if (settings.ranks > 1 && one !== undefined)
    return `${at.subject(one)} looks at one process, and ${at.mention("ranks")} at one of several. Remove one of the two.`;
  const machine = (["fit", "gpu", "memory", "disk", "largest"] as const).find((name) => at.has(name));
  for (const other of ["compare", "calibrate"] as const) {
    if (machine !== undefined && settings[other] && (other === "compare" || !settings.largest))
      return `${at.subject(other)} looks at one work or way, and ${at.mention(machine)} chooses it. Give one of the two.`;
  }
  for (const name of ["memory", "disk"] as const) {
    if (settings[name] !== "" && !((parseBytes(settings[name]) ?? 0) > 0))
      return `${at.subject(name)} leaves no room (expected a size such as 24GiB). Give what there is.`;
  }
  if (settings.largest) return checkLargest(settings, at);
  if (settings.gpu !== "" && at.has("device") && isCpu(settings.device))
    return `${at.subject("gpu")} has no effect: ${at.mention("device")} computes on the processor. Remove one of the two.`;
  if (settings.calibrate && !isCpu(settings.device)) {
    return `${at.subject("calibrate")} times this machine's processor, not ${at.mention("device")}. Remove calibrate.`;
  }
  return undefined;
}

function checkLargest(settings: PlanSettings, at: Given): string | undefined {
  const limit = settings.gpu !== "" ? "gpu" : "memory";
  if (settings[limit] === "") return `${at.subject("largest")} needs a limit. Add memory, or gpu.`;
  for (const other of ["per_device_train_batch_size", "fit"] as const) {
    if (at.has(other))
      return `${at.subject(other)} has no effect: ${at.mention("largest")} chooses. Remove one of the two.`;
  }
  for (const other of ["disk", ...(limit === "gpu" ? (["memory"] as const) : [])] as const) {
    if (settings[other] !== "")
      return `${at.subject(other)} has no effect: ${at.mention(limit)} is the limit of the largest. Remove one of the two.`;
  }
  return undefined;
}
