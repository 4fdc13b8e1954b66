// What one process of a bench does: builds the model of one case, compares its gradients, and makes steps when it is
// told to. Nothing is freed, since the process ends afterwards.
import { readConfig, readConfigFile } from "../checkpoint/folder.js";
import { statedDtype } from "../checkpoint/config-text.js";
import { folderFiles } from "../checkpoint/source.js";
import { loadModel } from "../checkpoint/load.js";
import { textConfig } from "../checkpoint/config/text-config.js";
import { type Batch, Batches } from "../data/batches.js";
import { loadWithInput } from "../data/prepared/tokenizer-input.js";
import { readArchitecture } from "../families/registry.js";
import { type Model, randomModel } from "../model/model.js";
import { statOf } from "../read-file.js";
import { METHODS } from "../reversible/methods/registry.js";
import { useDevice, engineInfo, setThreads, synchronize } from "../torch/device.js";
import { ledger, limitMemory, resetPeak } from "../torch/memory.js";
import { seedFor } from "../torch/random.js";
import { dtype } from "../torch/tensor.js";
import { fullBatch } from "../train/full-batch.js";
import { type MemoryTerms, memoryTerms } from "../step/memory-terms.js";
import type { Network } from "../network/network.js";
import { OptimizerStates } from "../step/optimizer-states.js";
import { checkTokens, readData } from "../train/prepare-data.js";
import { networkOf, statesOf } from "../train/prepare-network.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { trainStep, type StepResult } from "../step/step.js";
import { atDepth } from "./depth.js";
import { compareGradients, writeGradients } from "./gradients.js";

export interface Job {
  settings: TrainSettings;
  layers: number | null;
  gradients: { path: string; action: "write" | "compare" } | null;
  memoryLimitBytes: number | null;
}

/** What is known before the first step. */
export interface Start {
  gradRelativeError: number | null;
  engine: { version: string; threads: number; computeDtype: string; weightsDtype: string };
}

export interface StepFigures extends MemoryTerms {
  stepMs: number;
  tokens: number;
  loss: number;
  /** The step's peak above what was alive before it. */
  activationBytes: number;
  bitBytes: number;
  hostBytes: number;
}

/**
 * Builds the model, and writes or compares its gradients if the job asks for it; then each call of `step` trains it by
 * one step.
 */
export async function openWork({ settings, layers, gradients, memoryLimitBytes }: Job): Promise<{
  start: Start;
  step: () => StepFigures;
}> {
  useDevice(settings.device);
  setThreads(settings.threads);
  if (memoryLimitBytes !== null) limitMemory(memoryLimitBytes);
  const model = makeModel(settings, layers);
  const network = networkOf(settings, model);
  const nextBatches = await supply(settings, model);
  let batches: Batch[] | null = nextBatches(0);
  const { version, threads } = engineInfo();
  const engine = {
    version,
    threads,
    computeDtype: network.computeDtype,
    weightsDtype: dtype(Object.values(model.outer)[0]),
  };
  const gradRelativeError = gradients === null ? null : takeGradients(network, settings, batches, gradients);
  let states: OptimizerStates | null = null;
  let index = 0;
  const step = (): StepFigures => {
    states ??= statesOf(settings, network);
    const figures = measure(network, states, settings, batches ?? nextBatches(index), index++);
    batches = null;
    return figures;
  };
  return { start: { gradRelativeError, engine }, step };
}

/** The config.json of a folder, or a single file, at a depth; `own`: that depth is the file's own. */
export function readModelConfig(
  model: string,
  layers: number | null,
): { source: Record<string, unknown>; path: string; own: boolean } {
  const isFile = statOf(model)?.isFile() === true;
  const { config, path } = isFile ? readConfigFile(model) : readConfig(model);
  const own = !isFile && (layers === null || layers === textConfig(config).num_hidden_layers);
  return { source: layers === null ? config : atDepth(config, layers), path, own };
}

function makeModel({ model, weights_dtype: weightsDtype, device, seed }: TrainSettings, layers: number | null): Model {
  const { source, path, own } = readModelConfig(model, layers);
  if (own) return loadModel(model, { weightsDtype, device });
  const architecture = readArchitecture(source, path);
  return randomModel(architecture, seed, weightsDtype === "auto" ? statedDtype(source) : weightsDtype, device);
}

/** Micro-batches of each step: rows of random tokens that follow from (seed, step), or rows of the file. */
async function supply(settings: TrainSettings, { architecture }: Model): Promise<(step: number) => Batch[]> {
  const {
    train_file: file,
    max_length,
    per_device_train_batch_size: rows,
    gradient_accumulation_steps: count,
    packing,
    seed,
  } = settings;
  if (file === "-") {
    return (step) =>
      Array.from({ length: count }, (_, i) => fullBatch(settings, architecture.vocabSize, seedFor(seed, step, i)));
  }
  const { documents } = await readData(settings, loadWithInput(folderFiles(settings.model)));
  checkTokens(documents, architecture.vocabSize);
  const data = new Batches(documents, { rows, max_length, packing, seed });
  return () => Array.from({ length: count }, () => data.next());
}

function step(
  network: Network,
  states: OptimizerStates,
  settings: TrainSettings,
  batches: Batch[],
  index: number,
): StepResult {
  return trainStep(network, states, batches, {
    method: METHODS[settings.method],
    step: index + 1,
    learningRate: settings.learning_rate,
    maxBlockGradNorm: settings.max_block_grad_norm,
    seed: settings.seed,
  });
}

function takeGradients(
  network: Network,
  settings: TrainSettings,
  batches: Batch[],
  { path, action }: NonNullable<Job["gradients"]>,
): number | null {
  const comparison = action === "compare" ? compareGradients(path) : null;
  const { optimizer, close } = comparison ?? writeGradients(path);
  try {
    step(network, new OptimizerStates(optimizer, network.model), { ...settings, max_block_grad_norm: 0 }, batches, 0);
    return comparison?.relativeError() ?? null;
  } finally {
    close();
  }
}

function measure(
  network: Network,
  states: OptimizerStates,
  settings: TrainSettings,
  batches: Batch[],
  index: number,
): StepFigures {
  const { device } = network;
  synchronize(device);
  resetPeak(device);
  const before = ledger(device).liveBytes;
  const started = performance.now();
  const result = step(network, states, settings, batches, index);
  synchronize(device);
  const stepMs = performance.now() - started;
  const { loss, bitBytes, hostBytes } = result;
  const tokens = batches.reduce((sum, batch) => sum + batch.tokens.length, 0);
  const terms = memoryTerms(network, states, result);
  return { ...terms, stepMs, tokens, loss, activationBytes: terms.peakBytes - before, bitBytes, hostBytes };
}
