// From settings to everything a run needs: rows become batches, a folder becomes a network with optimiser state, at the
// step where an earlier run stopped. Reads only; the caller owns the run and frees its tensors with `freeRun`.
import { UserError } from "../errors.js";
import { latestCheckpoint, readRunState, type RunState } from "../checkpoint/run-state.js";
import { type ModelSource, openSource } from "../checkpoint/source.js";
import { type Batch, Batches, sequentialBatches } from "../data/batches.js";
import { type DataReport, type Document, makeDocuments } from "../data/documents.js";
import { readRows, type Row } from "../data/rows.js";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer.js";
import { architectureOf } from "../model/architecture.js";
import { freeModel, type Model } from "../model/model.js";
import { checkDevice, setThreads } from "../torch/device.js";
import { checkOptimizer, clippingNotes } from "./choose-optimizer.js";
import { describeNetwork, type NetworkDescription } from "./network-file.js";
import type { Network } from "./network.js";
import type { OptimizerStates } from "./optimizer-states.js";
import { checkRouter, fitGrid, isConverted, makeModel, networkOf, notesOf, routerNotes, statesOf } from "./prepare-network.js";
import type { TrainSettings } from "./settings.js";

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
  warmupSteps: number;
}

export function prepareRun(asked: TrainSettings): Run {
  const made: Made = {};
  try {
    return prepare(asked, made);
  } catch (failure) {
    made.states?.free();
    if (made.model) freeModel(made.model);
    throw failure;
  }
}

/** What is to be freed when the rest of the preparation is refused. */
interface Made {
  model?: Model;
  states?: OptimizerStates;
}

function prepare(asked: TrainSettings, made: Made): Run {
  const settings = { ...asked };
  checkDevice(settings.device);
  setThreads(settings.threads);
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
  if (resumed) data.restore(resumed.state.batches);
  const model = makeModel(settings, source, resumed?.folder);
  made.model = model;
  checkTokens([...documents, ...evalDocuments], model.config.vocabSize);
  checkRouter(settings, model.config);
  checkOptimizer(settings, model);
  if (!resumed) fitGrid(settings, model, documents);
  const description = describeNetwork(settings);
  const network = networkOf(settings, model);
  const states = statesOf(settings, network);
  made.states = states;
  if (resumed) resumed.state.restore(states.tensors());
  const byEpochs = Math.ceil((settings.num_train_epochs * data.batchesPerEpoch) / settings.gradient_accumulation_steps);
  const totalSteps = settings.max_steps || Math.max(1, byEpochs);
  return {
    settings,
    source,
    description,
    states,
    data,
    report,
    totalSteps,
    notes: resumed ? [] : [...notesOf(settings, description), ...routerNotes(settings, model.config), ...clippingNotes(settings)],
    converted: isConverted(settings, description),
    network,
    evalBatches: sequentialBatches(evalDocuments, { rows: settings.per_device_eval_batch_size, max_length: settings.max_length }),
    startStep: resumed?.state.step ?? 0,
    warmupSteps: settings.warmup_steps || Math.ceil(settings.warmup_ratio * totalSteps),
  };
}

export function freeRun(run: Run): void {
  run.states.free();
  freeModel(run.network.model);
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
] as const satisfies (keyof TrainSettings)[];

function checkSame(settings: TrainSettings, before: Record<string, unknown>, folder: string): void {
  for (const name of FIXED) {
    if (before[name] === undefined || before[name] === settings[name]) continue;
    throw new UserError(
      `${name}: ${settings[name]} here, but ${folder} was trained with ${before[name]}. Give the same value, or start a new run with --model ${folder}.`,
    );
  }
}

function findResumed(settings: TrainSettings): { folder: string; state: RunState } | undefined {
  const { resume, output_dir } = settings;
  if (!resume) return undefined;
  const folder = resume === "latest" ? latestCheckpoint(output_dir) : resume;
  if (!folder) throw new UserError(`resume: no complete checkpoint-N folder in ${output_dir}. Leave --resume out to start anew.`);
  const state = readRunState(folder);
  // Left open, the grid is the one that the run began with.
  if (settings.stream_fraction_bits === 0) settings.stream_fraction_bits = Number(state.settings.stream_fraction_bits ?? 0);
  checkSame(settings, state.settings, folder);
  return { folder, state };
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
