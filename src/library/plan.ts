// `plan(settings)` for programs: what a training step will take, by term and place, before any weight is read, and the
// ways that fit a machine. `revmoe plan` shows the same. Returns plain data.
import { UserError } from "../errors.js";
import { parseRate } from "../format.js";
import { namedModel } from "../hub/named-model.js";
import type { Output } from "../metrics/output.js";
import { readGeometry } from "../plan/geometry.js";
import type { Placed } from "../plan/placement.js";
import { type Kept, type Plan, planStep, type SpanPeak } from "../plan/plan.js";
import { PLAN_ROWS, PLAN_TABLE, type PlanSettings as AllPlanSettings, resolverOf } from "../plan/settings.js";
import type { Geometry } from "../plan/shadow-step.js";
import { type Machine, machineOf } from "../plan/ways/machine.js";
import { planLayouts } from "../plan/layouts/times.js";
import { layoutAsData } from "../plan/layouts/words.js";
import type { Resolve } from "../plan/ways/space.js";
import { findWays, type Way } from "../plan/ways/ways.js";
import { changesBetween, figuresOf } from "../plan/ways/words.js";
import { trainFlags } from "../plan/words.js";
import { unknownSetting } from "../settings/resolve.js";
import type { SettingsInput, SettingsTable } from "../settings/table.js";
import type { MemoryTerms } from "../step/memory-terms.js";
import { TRAIN_ROWS, type TrainSettings } from "../train/settings/rows.js";
import { TRAIN_TABLE } from "../train/settings/settings.js";
import { checkObject, readSettings, type Settings } from "./settings.js";

/** Settings for the eyes, and settings that choose the work itself. */
const OF_THE_COMMAND = ["compare", "svg", "largest", "calibrate"] as const;
type OwnRows = Omit<typeof PLAN_ROWS, keyof typeof TRAIN_ROWS | (typeof OF_THE_COMMAND)[number]>;

/**
 * Settings of a step and, to get ways, of a machine: `fit: true` for this one, or any of `gpu`, `memory` and `disk`, as
 * in `{ gpu: "RTX 4090", memory: "64GiB" }`. Other settings of a run, such as `learning_rate`, may be given: they are
 * checked, but do not change the plan.
 */
export type PlanSettings = Omit<Settings, "output_dir" | "fit"> &
  Partial<Pick<Settings, "output_dir">> &
  Partial<SettingsInput<OwnRows>>;

/** A planned step. All sizes are bytes. */
export interface PlannedStep
  extends Pick<
    TrainSettings,
    "method" | "coupling" | "optimizer" | "max_length" | "per_device_train_batch_size" | "gradient_accumulation_steps"
  > {
  /** The peak on the device, by term; `terms.peakBytes` is the total. */
  terms: MemoryTerms;
  kept: Kept;
  /** The spans with the highest totals, the highest first. */
  spans: SpanPeak[];
  /** Bytes on the device, in main memory beside it, and in files. */
  placed: Placed;
  /** With several ranks: how many, and the mean bytes that one sends in a step. */
  ranks: Plan["ranks"];
}

/** A way to make the step that fits the machine. */
export interface PlannedWay extends ReturnType<typeof figuresOf> {
  /** What it costs in quality, in words; empty if it is ordinary fine-tuning with AdamW. */
  quality: string;
  /** The settings that it changes, for `train`. */
  settings: Partial<TrainSettings>;
  /** Its command line. */
  flags: string;
}

/** How ranks can divide the step, with an estimate of bytes and seconds, and whether the machine has room. */
export type PlannedLayoutData = ReturnType<typeof layoutAsData>;

export interface PlanReport {
  /** The step with the settings as they were given. */
  step: PlannedStep;
  /** The machine that was described, or this one; null if no ways were asked for. */
  machine: Machine | null;
  /** The best first; empty if none fits, or if none were asked for. */
  ways: PlannedWay[];
  /** With several ranks and a `link`: the fastest layout that fits comes first. */
  layouts: PlannedLayoutData[];
}

/**
 * Plans a step; loads only headers and config.json. `output` gets notes on a model that is fetched or chosen. Errors:
 * UserError with the message that the command line prints.
 */
export async function plan(
  settings: PlanSettings,
  { output }: { output?: Pick<Output, "write"> } = {},
): Promise<PlanReport> {
  checkObject(settings);
  const own = OF_THE_COMMAND.find((name) => Object.hasOwn(settings, name));
  if (own !== undefined)
    throw new UserError(`${own}: only the command line has it; the library plans one work at a time. Leave it out.`);
  const resolved = readSettings(PLAN_TABLE, planned(settings));
  const begun = await beginPlan(resolved.settings, resolved.given, { write: (text) => output?.write(text) });
  const { ranks, link } = resolved.settings;
  const asksWays = ranks === 1 && (["fit", "gpu", "memory", "disk"] as const).some((name) => resolved.given.has(name));
  const machine = asksWays || link !== "" ? machineFor(resolved.settings) : null;
  return {
    step: stepAsData(planStep(begun.settings, begun.geometry, undefined, ranks)),
    machine,
    ways:
      machine === null || !asksWays
        ? []
        : waysAsData(begun, findWays(begun.resolve, begun.geometry, machine, resolved.given)),
    layouts: machine === null || link === "" ? [] : layoutsFor(begun, resolved, machine).map(layoutAsData),
  };
}

const KNOWN: SettingsTable = { ...TRAIN_TABLE, rows: { ...TRAIN_ROWS, ...PLAN_ROWS }, check: undefined };

/** The settings that a plan uses; all others are checked as settings of a run. */
function planned(settings: PlanSettings): Record<string, unknown> {
  const isOthers = (name: string): boolean => name in TRAIN_ROWS && !(name in PLAN_ROWS);
  const entries = Object.entries(settings);
  const unknown = entries.find(([name]) => !(name in TRAIN_ROWS || name in PLAN_ROWS));
  if (unknown) throw unknownSetting(KNOWN, unknown[0], unknown[0]);
  const ofRun = Object.fromEntries(entries.filter(([name]) => name in TRAIN_ROWS && name !== "fit"));
  readSettings(TRAIN_TABLE, { train_file: "-", output_dir: "-", ...ofRun });
  return Object.fromEntries(entries.filter(([name]) => !isOthers(name)));
}

/** What all plans of one model share. */
export interface BegunPlan {
  /** The model's name as it was given: a folder or a name on the hub. */
  model: string;
  settings: TrainSettings;
  geometry: Geometry;
  /** Resolves the settings with a change. */
  resolve: Resolve;
}

/** Reads the model of checked settings. `extra` are settings that follow from others. */
export async function beginPlan(
  asked: AllPlanSettings,
  given: ReadonlySet<string>,
  out: Output,
  extra: Partial<TrainSettings> = {},
): Promise<BegunPlan> {
  const { folder } = await namedModel(asked.model, "plan", { out, preferCached: true });
  const names = new Set([...given, ...Object.keys(extra)]);
  const resolve = resolverOf({ ...asked, ...extra, model: folder }, names);
  const settings = resolve({});
  return { model: asked.model, settings, geometry: readGeometry(settings), resolve };
}

/** The machine that a plan is for. */
export const machineFor = (asked: AllPlanSettings): Machine => machineOf({ ...asked, folder: process.cwd() });

/** Layouts for the number of ranks that was asked for. */
export const layoutsFor = (
  { resolve, geometry }: BegunPlan,
  { settings: { ranks, link }, given }: { settings: AllPlanSettings; given: ReadonlySet<string> },
  machine: Machine,
) => planLayouts(resolve, geometry, { machine, world: ranks, link: parseRate(link) as number, asked: given });

/** Ways as plain data, each with the settings that it changes. */
export const waysAsData = ({ model, settings }: BegunPlan, ways: readonly Way[]): PlannedWay[] =>
  ways.map((way) => ({
    ...figuresOf(way),
    quality: way.quality,
    settings: changesBetween(settings, way.plan.settings),
    flags: trainFlags({ ...way.plan.settings, model }),
  }));

/** A plan as plain data, with only the main settings. */
export function stepAsData({ settings, terms, kept, spans, placed, ranks }: Plan): PlannedStep {
  const { method, coupling, optimizer, max_length, per_device_train_batch_size, gradient_accumulation_steps } =
    settings;
  return {
    method,
    coupling,
    optimizer,
    max_length,
    per_device_train_batch_size,
    gradient_accumulation_steps,
    terms,
    kept,
    spans,
    placed,
    ranks,
  };
}
