// What `init` looks at before it chooses: the model, the rows and the machine, each described in a line or two, and the
// ways that fit them.
import { loadWithInput } from "../../../data/prepared/tokenizer-input.js";
import { lookAtRows, type RowsLook } from "../../../data/preview/first-rows.js";
import { openSource } from "../../../checkpoint/source.js";
import { UserError } from "../../../errors.js";
import { formatBytes, formatCount, formatDuration, formatNumberOf } from "../../../format.js";
import { resolveSources } from "../../../hub/datasets.js";
import type { Output } from "../../../metrics/output.js";
import { readGeometry } from "../../../plan/geometry.js";
import { type ModelFacts, modelFacts } from "../../../plan/model-facts.js";
import { resolverOf } from "../../../plan/settings.js";
import { type Machine, machineOf } from "../../../plan/ways/machine.js";
import type { Resolve } from "../../../plan/ways/space.js";
import { findWays, leanWay, shorterThatFits, type Way } from "../../../plan/ways/ways.js";
import { describeMachine, figuresOf, nameOf } from "../../../plan/ways/words.js";
import type { SettingValue } from "../../../settings/table.js";
import { LONGEST } from "../../../settings/limits.js";
import { engineInfo, isCpu } from "../../../torch/device.js";
import { documentSettings, openRows } from "../../../train/prepare-data.js";
import { resolveSettings } from "../../../train/settings/settings.js";
import { namedModel } from "../../../hub/named-model.js";

export interface ModelLook {
  /** The name that was given, and the folder of the model. */
  given: string;
  folder: string;
  facts: ModelFacts;
  words: string;
}

export async function lookAtModel(given: string, out: Output): Promise<ModelLook> {
  const { folder } = await namedModel(given, "name", { out, preferCached: true });
  const facts = modelFacts(folder, null);
  const { modelType, parameters, activeParameters, bytes, templates } = facts;
  const active = activeParameters < parameters ? `, ${formatCount(activeParameters)} for a token` : "";
  const weights = Object.entries(bytes).map(([dtype, size]) => `${formatBytes(size)} ${dtype}`);
  const template = templates.length > 0 ? "with a chat template" : "no chat template";
  const words = `${modelType}, ${formatCount(parameters)} parameters${active}, ${weights.join(" and ")}, ${template}`;
  return { given, folder, facts, words };
}

export interface DataLook extends RowsLook {
  given: string;
  words: string;
}

/**
 * Reads the rows as a run would, with `ofRows` as their format and columns. Errors: UserError for files, rows, and rows
 * for which the model has no template.
 */
export async function lookAtData(
  given: string,
  { folder }: ModelLook,
  ofRows: Readonly<Record<string, SettingValue>>,
  out: Output,
): Promise<DataLook> {
  const { settings } = resolveSettings({ flags: { model: folder, train_file: given, output_dir: "-", ...ofRows } });
  const train_file = await resolveSources(given, "train_file", { out });
  const rows = await openRows("train_file", { ...settings, train_file });
  const { tokenizer } = loadWithInput(openSource(folder));
  const look = await lookAtRows(rows, {
    tokenizer,
    settings: documentSettings({ ...settings, max_length: LONGEST }),
  });
  const count = `${look.hasMore ? "more than " : ""}${formatNumberOf(look.rows, "row")}`;
  const first = look.seen < look.rows ? `the first ${look.seen.toLocaleString("en-US")}` : "them";
  const words =
    `${count} of format ${look.formats.join(" and ")}; of ${first} the median has ${look.median} tokens and the longest ${look.longest}, ` +
    `${Math.round(100 * look.trainedShare)} % trained`;
  return { ...look, given, words };
}

export interface MachineLook {
  machine: Machine;
  device: string;
  words: string;
}

/** This machine with its GPU, or another one that is described. Errors: UserError for an unknown card. */
export function lookAtMachine(described: { gpu: string; memory: string; disk: string }): MachineLook {
  const device = described.gpu !== "" || engineInfo().cudaDevices > 0 ? "cuda" : "cpu";
  const machine = machineOf({ ...described, device, folder: process.cwd() });
  return { machine, device, words: describeMachine(machine) };
}

/** Most tokens for texts; longer ones are split, and nothing is lost. */
const TEXT_LENGTH = 2048;
const SHORTEST = 64;
/** Least number of steps of an epoch, if there are as many packs of rows. */
const FEW_STEPS = 20;
/** This share of the rows is held out, at most so many, and only if there are enough rows. */
const HELD_SHARE = 0.05;
const MOST_HELD = 200;
const FEWEST_ROWS = 40;

/** The least power of two at which no more than one row in a hundred is cut. */
export function lengthFor({ formats, most99, longest }: RowsLook, maxPositions: number): number {
  const wanted = formats.every((format) => format === "text") ? Math.min(TEXT_LENGTH, longest) : most99;
  return Math.min(maxPositions, Math.max(SHORTEST, 2 ** Math.ceil(Math.log2(Math.max(2, wanted)))));
}

/** Number of rows that are held out; 0 if there are few rows. */
export const heldOut = ({ rows }: RowsLook): number =>
  rows < FEWEST_ROWS ? 0 : Math.min(MOST_HELD, Math.floor(HELD_SHARE * rows));

const tokensOf = ({ rows, meanTokens }: RowsLook): number => rows * meanTokens;

/** Packs of `max_length` tokens in a batch: the usual number at most, fewer if there are few packs. */
export const batchFor = (look: RowsLook, max_length: number): number =>
  Math.min(4, Math.max(1, Math.floor(tokensOf(look) / max_length / FEW_STEPS)));

export interface WaysLook {
  ways: Way[];
  /** Finds the way with the least memory; its first call takes a while. */
  lean(): Way;
  /** The length to which rows are cut if memory is short. */
  max_length: number;
}

/** The ways to make a step with such rows. Errors: UserError if none fits. */
export function lookForWays(
  model: ModelLook,
  data: RowsLook,
  { machine, device, words }: MachineLook,
  max_length: number,
): WaysLook {
  const work = { model: model.folder, max_length, device, per_device_train_batch_size: batchFor(data, max_length) };
  const asked = new Set(["model", "max_length", "device"]);
  const resolve = resolverOf(work, new Set(Object.keys(work)));
  const geometry = readGeometry(resolve({}));
  const found = (ways: Way[], max_length: number): WaysLook => {
    let lean: Way | null = null;
    const ofLength: Resolve = (change) => resolve({ ...change, max_length });
    return { ways, max_length, lean: () => (lean ??= leanWay(ofLength, geometry, machine, asked) ?? ways[0]) };
  };
  const ways = findWays(resolve, geometry, machine, asked);
  if (ways.length > 0) return found(ways, max_length);
  const shorter = shorterThatFits(resolve, geometry, machine, asked);
  if (shorter === null)
    throw new UserError(
      `no way to take a step of this model fits ${words}, in memory or from disk. Use a smaller model, or a machine with more memory or disk.`,
    );
  return found([shorter], shorter.plan.settings.max_length);
}

/** "adamw, checkpoint: 1.2 GiB, ~3.2s a step, ~12m an epoch (reversible: ...)" */
export function wayWords(way: Way, data: RowsLook): string {
  const { deviceBytes, hostBytes, diskBytes, seconds, tokensPerSecond } = figuresOf(way);
  const onCpu = isCpu(way.plan.settings.device);
  const places = [
    `${formatBytes(deviceBytes)} ${onCpu ? "of memory" : "on the card"}`,
    ...(hostBytes > 0 ? [`${formatBytes(hostBytes)} of main memory`] : []),
    ...(diskBytes > 0 ? [`${formatBytes(diskBytes)} in files`] : []),
  ];
  const epoch = tokensOf(data) / tokensPerSecond;
  return (
    `${nameOf(way.plan.settings)}: ${places.join(", ")}; about ${formatDuration(1000 * seconds)} a step and ` +
    `${data.hasMore ? "more than " : ""}${formatDuration(1000 * epoch)} an epoch${way.quality === "" ? "" : ` (${way.quality})`}`
  );
}
