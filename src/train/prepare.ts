// From settings to everything a run needs: rows become batches, a folder becomes a network with optimiser state, at the
// step where an earlier run stopped. Reads only; the caller owns the run and frees its tensors with `freeRun`.
import { UserError } from "../errors.js";
import { latestCheckpoint, readRunState, type RunState } from "../checkpoint/run-state.js";
import { loadModel } from "../checkpoint/load.js";
import { type ModelSource, openSource } from "../checkpoint/source.js";
import { type Batch, Batches, sequentialBatches } from "../data/batches.js";
import { type DataReport, type Document, makeDocuments } from "../data/documents.js";
import { readRows, type Row } from "../data/rows.js";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer.js";
import { architectureOf, type ModelConfig } from "../model/architecture.js";
import { freeModel, type Model, randomModel } from "../model/model.js";
import { adamw } from "../optim/adamw.js";
import type { RevffnSettings } from "../reversible/revffn.js";
import { checkDevice, fastestDtype, setThreads } from "../torch/device.js";
import { couplingOf, describeNetwork, extensionOf, type NetworkDescription, networkParts, readNetworkFile } from "./network-file.js";
import { type Network, routerNames } from "./network.js";
import { OptimizerStates } from "./optimizer-states.js";
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

export function prepareRun(settings: TrainSettings): Run {
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
  checkTokens([...documents, ...evalDocuments], model.config.vocabSize);
  const description = describeNetwork(settings);
  checkRouter(settings, model.config);
  const atEnd = describeNetwork(settings, settings.gamma_final || settings.gamma);
  checkPacking(settings, model.config.hiddenSize, Math.max(couplingOf(description).storedBits, couplingOf(atEnd).storedBits));
  checkDivision(settings, model.config.numLayers);
  checkHalves(settings, model.config.hiddenSize);
  const frozen = settings.freeze_router ? routerNames(model) : new Set<string>();
  const states = new OptimizerStates(
    adamw({
      beta1: settings.adam_beta1,
      beta2: settings.adam_beta2,
      epsilon: settings.adam_epsilon,
      weightDecay: settings.weight_decay,
    }),
    model,
    frozen,
  );
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
    notes: resumed ? [] : [...notesOf(settings, description), ...routerNotes(settings, model.config)],
    converted: isConverted(settings, description),
    network: {
      model,
      ...networkParts(description, inverseOf(settings)),
      bitsOnHost: settings.stored_bits === "host",
      device: settings.device,
      computeDtype: settings.compute_dtype === "auto" ? fastestDtype(settings.device) : settings.compute_dtype,
      lossTileTokens: settings.loss_tile_tokens,
      frozen,
    },
    evalBatches: sequentialBatches(evalDocuments, { rows: settings.per_device_eval_batch_size, max_length: settings.max_length }),
    startStep: resumed?.state.step ?? 0,
    warmupSteps: settings.warmup_steps || Math.ceil(settings.warmup_ratio * totalSteps),
  };
}

const CONVERSIONS = {
  equal: "which computes the same until training begins",
  close: "which computes nearly the same until training adapts it",
  different: "which computes something else until training adapts it",
};

function isConverted({ model, init_weights }: TrainSettings, description: NetworkDescription): boolean {
  return init_weights === "checkpoint" && readNetworkFile(model).coupling === "ordinary" && description.coupling !== "ordinary";
}

function notesOf(settings: TrainSettings, description: NetworkDescription): string[] {
  const { model } = settings;
  const coupling = couplingOf(description);
  if (isConverted(settings, description)) {
    return [`${model} is an ordinary network; it becomes ${coupling.name}, ${CONVERSIONS[coupling.conversion]}`];
  }
  const before = readNetworkFile(model);
  if (before.coupling === "ordinary" || couplingOf(before).name === coupling.name) return [];
  return [`${model} was trained as ${couplingOf(before).name}; this run trains it as ${coupling.name}`];
}

/** What transformers would take from config.json in training, and a run here takes from its settings alone. */
function routerNotes(settings: TrainSettings, { source }: ModelConfig): string[] {
  const note = (key: "router_aux_loss_coef" | "router_jitter_noise", asks: boolean): string[] =>
    asks && Number(source[key]) > 0 && settings[key] === 0
      ? [`config.json has ${key} ${source[key]}, which is off here unless it is given as a setting`]
      : [];
  return [...note("router_aux_loss_coef", source.output_router_logits === true), ...note("router_jitter_noise", true)];
}

export function freeRun(run: Run): void {
  run.states.free();
  freeModel(run.network.model);
}

/** What a run cannot change midway: the network it trains, and the order of its data, in which it has a position. */
const FIXED = [
  "coupling",
  "gamma",
  "gamma_final",
  "adapter_sharing",
  "blocks_per_step",
  "checkpoint_first_blocks",
  "checkpoint_last_blocks",
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
  checkSame(settings, state.settings, folder);
  return { folder, state };
}

/** How revffn is to be reversed. */
function inverseOf(settings: TrainSettings): RevffnSettings {
  return {
    iterations: settings.fixed_point_iterations,
    tolerance: settings.fixed_point_tolerance,
    start: settings.fixed_point_start,
    damping: settings.fixed_point_damping,
    anderson: settings.fixed_point_anderson,
    storedHint: settings.reconstruction === "stored_hint",
  };
}

function makeModel(settings: TrainSettings, source: ModelSource, resumedFolder: string | undefined): Model {
  const { device, seed, weights_dtype: weightsDtype } = settings;
  const extend = extensionOf(describeNetwork(settings), settings.adapter_init);
  if (resumedFolder || settings.init_weights === "checkpoint") {
    return loadModel(resumedFolder ?? source, { weightsDtype, device, extend, seed });
  }
  const architecture = architectureOf(source.config, source.configPath);
  return randomModel(
    extend(architecture),
    architecture.readConfig(source.config, source.configPath),
    seed,
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

function checkRouter(settings: TrainSettings, { sparse }: ModelConfig): void {
  const given = (["router_aux_loss_coef", "router_z_loss_coef", "router_jitter_noise", "freeze_router"] as const).find(
    (name) => settings[name],
  );
  if (given === undefined || sparse.includes(true)) return;
  throw new UserError(`${given}: ${settings[given]} has no effect: no layer of ${settings.model} has a router. Remove it.`);
}

/** Stored bits are packed eight elements to a whole number of bytes. */
function checkPacking({ gamma, stream }: TrainSettings, hiddenSize: number, storedBits: number): void {
  if (storedBits === 0 || stream === "float32" || hiddenSize % 8 === 0) return;
  throw new UserError(
    `gamma: ${gamma} stores bits, which need a hidden_size that is a multiple of 8, not ${hiddenSize}. Use gamma -1 or another coupling.`,
  );
}

function checkHalves({ coupling }: TrainSettings, hiddenSize: number): void {
  if (coupling !== "revffn" || hiddenSize % 2 === 0) return;
  throw new UserError(`coupling: revffn splits the hidden state, so hidden_size must be even, not ${hiddenSize}. Use coupling momentum.`);
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
