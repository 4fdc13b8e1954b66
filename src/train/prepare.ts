// From settings to everything a run needs: rows become batches, a folder becomes a network with optimiser state, at the
// step where an earlier run stopped. Reads only; the caller owns the run and frees its tensors with `freeRun`.
import { UserError } from "../errors.js";
import { latestCheckpoint, readRunState, type RunState } from "../checkpoint/run-state.js";
import { loadModel } from "../checkpoint/load.js";
import { readConfig } from "../checkpoint/folder.js";
import { type Batch, Batches, sequentialBatches } from "../data/batches.js";
import { type DataReport, type Document, makeDocuments } from "../data/documents.js";
import { readRows, type Row } from "../data/rows.js";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer.js";
import { architectureOf } from "../model/architecture.js";
import { freeModel, type Model, randomModel } from "../model/model.js";
import { adamw } from "../optim/adamw.js";
import { checkDevice, fastestDtype, setThreads } from "../torch/device.js";
import { couplingOf, describeNetwork, type NetworkDescription, networkParts, readNetworkFile } from "./network-file.js";
import type { Network } from "./network.js";
import { OptimizerStates } from "./optimizer-states.js";
import type { TrainSettings } from "./settings.js";

export interface Run {
  settings: TrainSettings;
  description: NetworkDescription;
  network: Network;
  states: OptimizerStates;
  data: Batches;
  evalBatches: Batch[];
  report: DataReport;
  /** What the person should know of these settings and did not ask. */
  notes: string[];
  /** Steps already done by the run that is resumed. */
  startStep: number;
  totalSteps: number;
  warmupSteps: number;
}

export function prepareRun(settings: TrainSettings): Run {
  checkDevice(settings.device);
  setThreads(settings.threads);
  checkModel(settings.model);
  const resumed = findResumed(settings);
  const tokenizer = loadTokenizer(settings.model);
  const { documents, evalDocuments, report } = readData(settings, tokenizer);
  const data = new Batches(documents, {
    rows: settings.per_device_train_batch_size,
    max_length: settings.max_length,
    packing: settings.packing,
    seed: settings.seed,
  });
  if (resumed) data.restore(resumed.state.batches);
  const model = makeModel(settings, resumed?.folder);
  checkTokens([...documents, ...evalDocuments], model.config.vocabSize);
  const description = describeNetwork(settings);
  const atEnd = describeNetwork(settings, settings.gamma_final || settings.gamma);
  checkPacking(settings, model.config.hiddenSize, Math.max(couplingOf(description).storedBits, couplingOf(atEnd).storedBits));
  checkDivision(settings, model.config.numLayers);
  const states = new OptimizerStates(
    adamw({
      beta1: settings.adam_beta1,
      beta2: settings.adam_beta2,
      epsilon: settings.adam_epsilon,
      weightDecay: settings.weight_decay,
    }),
    model,
  );
  if (resumed) resumed.state.restore(states.tensors());
  const byEpochs = Math.ceil((settings.num_train_epochs * data.batchesPerEpoch) / settings.gradient_accumulation_steps);
  const totalSteps = settings.max_steps || Math.max(1, byEpochs);
  return {
    settings,
    description,
    states,
    data,
    report,
    totalSteps,
    notes: resumed ? [] : notesOf(settings, description),
    network: {
      model,
      ...networkParts(description),
      bitsOnHost: settings.stored_bits === "host",
      device: settings.device,
      computeDtype: settings.compute_dtype === "auto" ? fastestDtype(settings.device) : settings.compute_dtype,
      lossTileTokens: settings.loss_tile_tokens,
      tileTokens: settings.tile_tokens,
    },
    evalBatches: sequentialBatches(evalDocuments, { rows: settings.per_device_eval_batch_size, max_length: settings.max_length }),
    startStep: resumed?.state.step ?? 0,
    warmupSteps: settings.warmup_steps || Math.ceil(settings.warmup_ratio * totalSteps),
  };
}

function notesOf({ model }: TrainSettings, description: NetworkDescription): string[] {
  const before = readNetworkFile(model);
  const name = (network: NetworkDescription): string => couplingOf(network).name;
  if (before.coupling === "ordinary" || name(before) === name(description)) return [];
  return [`${model} was trained as ${name(before)}; this run trains it as ${name(description)}`];
}

export function freeRun(run: Run): void {
  run.states.free();
  freeModel(run.network.model);
}

/** Says at once that a folder is no model of ours, before rows are read and tokens made. */
function checkModel(folder: string): void {
  const { config, path } = readConfig(folder);
  architectureOf(config, path);
}

/** What a run cannot change midway: the network it trains, and the order of its data, in which it has a position. */
const FIXED = [
  "coupling",
  "gamma",
  "gamma_final",
  "blocks_per_step",
  "checkpoint_first_blocks",
  "checkpoint_last_blocks",
  "stream",
  "stream_fraction_bits",
  "seed",
  "packing",
  "max_length",
  "per_device_train_batch_size",
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
  checkSame(settings, state.settings, folder);
  return { folder, state };
}

function makeModel(settings: TrainSettings, resumedFolder: string | undefined): Model {
  const { device, weights_dtype: weightsDtype } = settings;
  if (resumedFolder || settings.init_weights === "checkpoint") return loadModel(resumedFolder ?? settings.model, { weightsDtype, device });
  const { config: source, path } = readConfig(settings.model);
  const architecture = architectureOf(source, path);
  return randomModel(
    architecture,
    architecture.readConfig(source, path),
    settings.seed,
    weightsDtype === "auto" ? "float32" : weightsDtype,
    device,
  );
}

function readData(settings: TrainSettings, tokenizer: Tokenizer): { documents: Document[]; evalDocuments: Document[]; report: DataReport } {
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

/** Stored bits are packed eight elements to a whole number of bytes. */
function checkPacking({ gamma, stream }: TrainSettings, hiddenSize: number, storedBits: number): void {
  if (storedBits === 0 || stream === "float32" || hiddenSize % 8 === 0) return;
  throw new UserError(
    `gamma: ${gamma} stores bits, which need a hidden_size that is a multiple of 8, not ${hiddenSize}. Use gamma -1 or another coupling.`,
  );
}

function checkDivision(settings: TrainSettings, layers: number): void {
  const { checkpoint_first_blocks: first, checkpoint_last_blocks: last, blocks_per_step: size, coupling } = settings;
  if (first + last >= layers && first + last > 0) {
    throw new UserError(
      `checkpoint_first_blocks and checkpoint_last_blocks: ${first} and ${last} of ${layers} blocks leave none to reverse. Keep fewer, or set coupling ordinary and method checkpoint.`,
    );
  }
  if (size > layers - first - last && coupling !== "ordinary") {
    throw new UserError(`blocks_per_step: ${size} is more than the ${layers - first - last} blocks there are to reverse. Use fewer.`);
  }
}

function checkTokens(documents: Document[], vocabSize: number): void {
  for (const { tokens, place } of documents) {
    const bad = tokens.find((token) => token >= vocabSize);
    if (bad !== undefined) {
      throw new UserError(
        `${place}: token ${bad} is outside the model's vocabulary of ${vocabSize}. The tokenizer.json does not belong to this model.`,
      );
    }
  }
}
