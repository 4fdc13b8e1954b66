// From settings to everything a run needs: rows become batches, a folder becomes a network with optimiser state, at the
// step where an earlier run stopped. Reads only; the caller owns the run and frees its tensors with `freeRun`.
import { UserError } from "../errors.js";
import { checkpointFolder } from "../checkpoint/checkpoints.js";
import { listCheckpoints, readRunState, type RunState } from "../checkpoint/run-state.js";
import { type ModelSource, openSource } from "../checkpoint/source.js";
import { type Batch, Batches, sequentialBatches } from "../data/batches.js";
import { type DataReport, type Document, makeDocuments } from "../data/documents.js";
import { readRows, type Row } from "../data/rows.js";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer.js";
import { architectureOf } from "../model/architecture.js";
import { freeModel, type Model } from "../model/model.js";
import { parseBytes } from "../format.js";
import type { Tier } from "../tiers/tier.js";
import { useDevice, setThreads } from "../torch/device.js";
import { limitMemory, NO_LIMIT } from "../torch/memory.js";
import { during } from "../torch/moment.js";
import { checkOptimizer, clippingNotes } from "./choose-optimizer.js";
import { readLeftOut } from "./left-out.js";
import { describeNetwork, type NetworkDescription } from "./network-file.js";
import type { Network } from "./network.js";
import type { OptimizerStates } from "./optimizer-states.js";
import { type Phase, phaseAt, phasesOf, trainsOf } from "./phases.js";
import {
  checkRouter,
  fitGrid,
  isConverted,
  makeModel,
  networkOf,
  notesOf,
  type ResumedFrom,
  routerNotes,
  statesOf,
  teacherOf,
} from "./prepare-network.js";
import { makeTier, unfinishedRun } from "./prepare-tier.js";
import type { TrainSettings } from "./settings.js";
import type { Teacher } from "./teacher.js";

export interface Run {
  settings: TrainSettings;
  /** The model that training starts from. */
  source: ModelSource;
  description: NetworkDescription;
  network: Network;
  states: OptimizerStates;
  data: Batches;
  evalBatches: Batch[];
  report: DataReport;
  /** What the person should know of these settings and did not ask. */
  notes: string[];
  /** Whether weights of the ordinary network begin to be trained as another one. */
  converted: boolean;
  /** Steps already done by the run that is resumed. */
  startStep: number;
  totalSteps: number;
  phases: Phase[];
  /** The original network, from here to the end of distillation. */
  teacher: Teacher | null;
  /** Where the run went on from; nothing for one that began. */
  resumedFrom?: ResumedFrom;
  tokenizer: Tokenizer;
}

export function prepareRun(asked: TrainSettings): Run {
  const made: Made = {};
  try {
    return makeRun(asked, made);
  } catch (failure) {
    made.teacher?.close();
    made.states?.free();
    if (made.model) freeModel(made.model);
    // A working copy of many gigabytes must not stay behind a wrong setting.
    made.tier?.close(false);
    throw failure;
  }
}

/** What is to be released when the rest of the preparation is refused. */
interface Made {
  tier?: Tier;
  model?: Model;
  teacher?: Teacher | null;
  states?: OptimizerStates;
}

function makeRun(asked: TrainSettings, made: Made): Run {
  const settings = { ...asked };
  useDevice(settings.device);
  setThreads(settings.threads);
  limitMemory(parseBytes(settings.memory_limit) ?? NO_LIMIT);
  const source = openSource(settings.model);
  // A folder that is no model of ours is refused before rows are read and tokens made.
  architectureOf(source.config, source.configPath);
  const resumed = findResumed(settings);
  const tokenizer = loadTokenizer(source);
  const { documents, evalDocuments, report } = readData(settings, tokenizer);
  const data = new Batches(documents, {
    rows: settings.per_device_train_batch_size,
    max_length: settings.max_length,
    packing: settings.packing,
    seed: settings.seed,
  });
  if (resumed) {
    data.restore(resumed.state.batches);
    for (const place of readLeftOut(settings.output_dir)) data.leaveOut(place);
  }
  const tier = makeTier(settings, source);
  made.tier = tier;
  const model = during("loading weights", () => makeModel(settings, source, resumed, tier));
  made.model = model;
  checkTokens([...documents, ...evalDocuments], model.config.vocabSize);
  checkRouter(settings, model.config);
  checkOptimizer(settings, model);
  if (!resumed) fitGrid(settings, model, documents, tier);
  const description = describeNetwork(settings);
  const byEpochs = Math.ceil((settings.num_train_epochs * data.batchesPerEpoch) / settings.gradient_accumulation_steps);
  const totalSteps = settings.max_steps || Math.max(1, byEpochs);
  const startStep = resumed?.state.step ?? 0;
  const phases = phasesOf(settings, totalSteps);
  const network = { ...networkOf(settings, model, tier), trains: trainsOf(phaseAt(phases, startStep), settings, model) };
  const teacher = startStep < settings.adapter_steps + settings.distill_steps ? teacherOf(settings, source, network, description) : null;
  made.teacher = teacher;
  const states = during("optimizer state", () => statesOf(settings, network));
  made.states = states;
  if (resumed && !resumed.inPlace) resumed.state.restore(states.tensors());
  tier?.begin({ step: startStep, batches: data.state(), settings });
  return {
    settings,
    source,
    description,
    states,
    data,
    report,
    totalSteps,
    phases,
    teacher,
    startStep,
    tokenizer,
    resumedFrom: resumed && { folder: resumed.folder, inPlace: resumed.inPlace },
    notes: resumed ? [] : [...notesOf(settings, description), ...routerNotes(settings, model.config), ...clippingNotes(settings)],
    converted: isConverted(settings, description),
    network,
    evalBatches: sequentialBatches(evalDocuments, { rows: settings.per_device_eval_batch_size, max_length: settings.max_length }),
  };
}

/** `finished` says that a checkpoint or the result holds all that the run has done. */
export function freeRun(run: Run, finished = false): void {
  run.teacher?.close();
  run.states.free();
  freeModel(run.network.model);
  run.network.tier?.close(finished);
  if (run.settings.memory_limit !== "") limitMemory(NO_LIMIT);
}

/** What a run cannot change midway: the network it trains, what its optimiser keeps, and the order of its data, in which it has a position. */
const FIXED = [
  "coupling",
  "gamma",
  "gamma_final",
  "adapter_sharing",
  "blocks_per_step",
  "checkpoint_first_blocks",
  "checkpoint_last_blocks",
  "optimizer",
  "weights_correction",
  "stream",
  "stream_fraction_bits",
  "seed",
  "packing",
  "max_length",
  "per_device_train_batch_size",
  "freeze_router",
  "adapter_steps",
  "distill_steps",
] as const satisfies (keyof TrainSettings)[];

function checkSame(settings: TrainSettings, before: Record<string, unknown>, folder: string): void {
  for (const name of FIXED) {
    if (before[name] === undefined || before[name] === settings[name]) continue;
    throw new UserError(
      `${name}: ${settings[name]} here, but ${folder} was trained with ${before[name]}. Give the same value, or start a new run with --model ${folder}.`,
    );
  }
}

interface Resumed extends ResumedFrom {
  state: RunState;
}

function findResumed(settings: TrainSettings): Resumed | undefined {
  if (!settings.resume) return undefined;
  const found = settings.resume === "latest" ? latestRun(settings) : readCheckpoint(settings.resume);
  const { state, folder } = found;
  // Left open, the grid is the one that the run began with.
  if (settings.stream_fraction_bits === 0) settings.stream_fraction_bits = Number(state.settings.stream_fraction_bits ?? 0);
  checkSame(settings, state.settings, folder);
  return found;
}

const readCheckpoint = (folder: string): Resumed => ({ folder, inPlace: false, state: readRunState(folder) });

/** The working copy of a run that was cut off, where it is ahead of every checkpoint; else the newest checkpoint. */
function latestRun(settings: TrainSettings): Resumed {
  const { output_dir } = settings;
  const newest = listCheckpoints(output_dir).at(-1) ?? -1;
  const unfinished = unfinishedRun(settings, newest + 1);
  if (unfinished) return { folder: unfinished.folder, inPlace: true, state: { ...unfinished.progress, restore: () => {} } };
  if (newest < 0) throw new UserError(`resume: no complete checkpoint-N folder in ${output_dir}. Leave --resume out to start anew.`);
  return readCheckpoint(checkpointFolder(output_dir, newest));
}

/** The rows of settings as documents, trained and held out. */
export function readData(
  settings: TrainSettings,
  tokenizer: Tokenizer,
): { documents: Document[]; evalDocuments: Document[]; report: DataReport } {
  const rows = readRows(settings.train_file);
  const held = settings.validation_rows;
  if (held >= rows.length) {
    throw new UserError(`validation_rows: ${held} rows cannot be held out of ${rows.length} (${settings.train_file}). Use fewer.`);
  }
  const make = (some: Row[]) => makeDocuments(some, tokenizer, settings);
  const { documents, report } = make(held > 0 ? rows.slice(0, -held) : rows);
  const evalRows = settings.validation_file ? readRows(settings.validation_file) : held > 0 ? rows.slice(-held) : [];
  return { documents, report, evalDocuments: evalRows.length > 0 ? make(evalRows).documents : [] };
}

/** Refuses a document with a token that the model does not have. */
export function checkTokens(documents: Document[], vocabSize: number): void {
  for (const { tokens, place } of documents) {
    const bad = tokens.find((token) => token >= vocabSize);
    if (bad !== undefined) {
      throw new UserError(
        `${place}: token ${bad} is outside the model's vocabulary of ${vocabSize}. The tokenizer.json does not belong to this model.`,
      );
    }
  }
}
