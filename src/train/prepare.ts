// From settings to everything a run needs: rows become batches, a folder becomes a network with optimiser state, at the
// step where an earlier run stopped. Makes the run's folder and holds it; the caller owns the run and frees it with `freeRun`.
import { UserError } from "../errors.js";
import { listCheckpoints, type RunState } from "../checkpoint/run/state.js";
import { filesLeftOut, type ModelSource, openSource, withFilesKept } from "../checkpoint/source.js";
import { Batches, type BatchList, sequentialBatches } from "../data/batches.js";
import type { DataReport, Documents } from "../data/documents.js";
import type { DataFingerprint } from "../data/fingerprint.js";
import { loadWithInput } from "../data/prepared/tokenizer-input.js";
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";
import type { Output } from "../metrics/output.js";
import { architectureOf } from "../model/architecture.js";
import { freeModel, type Model, weightBytes } from "../model/model.js";
import { parseBytes } from "../format.js";
import { useDevice, setThreads } from "../torch/device.js";
import { limitMemory, NO_LIMIT } from "../torch/memory.js";
import { during } from "../torch/span.js";
import { checkOptimizer, clippingNotes } from "./check-optimizer.js";
import { readLeftOut } from "./recovery/left-out.js";
import { DESCRIBED_SETTINGS } from "../reversible/couplings/registry.js";
import { describeNetwork, type NetworkDescription } from "../network/description.js";
import type { Network } from "../network/network.js";
import type { ParameterStore } from "../store/store.js";
import type { OptimizerStates } from "../step/optimizer-states.js";
import { type Phase, phaseAt, phasesOf, trainsOf } from "./phases.js";
import {
  checkRouter,
  isConverted,
  makeModel,
  networkOf,
  notesOf,
  type ResumedFrom,
  routerNotes,
  statesOf,
  teacherOf,
  withFittingGrid,
} from "./prepare-network.js";
import { checkTokens, readData } from "./prepare-data.js";
import { makeStore, refuseIdleCopy, unfinishedRun } from "./prepare-store.js";
import { checkSameData, openCheckpoint, openNewestCheckpoint, withFingerprint } from "./folder/resume-checks.js";
import { openRunFolder, type RunFolder } from "./folder/run-folder.js";
import { checkRoom } from "./folder/run-room.js";
import type { TrainSettings } from "./settings/settings.js";
import type { Teacher } from "../step/teacher.js";

export interface Run {
  settings: TrainSettings;
  /** Held until `freeRun`. */
  folder: RunFolder;
  /** The model that training starts from. */
  source: ModelSource;
  description: NetworkDescription;
  network: Network;
  states: OptimizerStates;
  data: Batches;
  /** What batches are made of; closed by `freeRun`. */
  documents: Documents[];
  /** What `data` and the held-out rows are, as checkpoints keep it. */
  fingerprint: DataFingerprint;
  evalBatches: BatchList;
  report: DataReport;
  /** What the files of rows are, a line for each source. */
  found: string[];
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

/**
 * Makes the run and holds its folder, where no other can be made until `freeRun`; `out` is told how far the rows are.
 * Errors: UserError, and nothing is left.
 */
export async function prepareRun(asked: TrainSettings, out?: Output): Promise<Run> {
  const folder = openRunFolder(asked);
  const made: Made = {};
  try {
    return await makeRun(asked, made, folder, out);
  } catch (failure) {
    for (const documents of made.documents ?? []) documents.close();
    made.teacher?.close();
    made.states?.free();
    if (made.model) freeModel(made.model);
    // A working copy of many gigabytes must not stay behind a wrong setting.
    made.store?.close(false);
    folder.abandon();
    throw failure;
  }
}

/** What is to be released when the rest of the preparation is refused. */
interface Made {
  documents?: Documents[];
  store?: ParameterStore;
  model?: Model;
  teacher?: Teacher | null;
  states?: OptimizerStates;
}

async function makeRun(asked: TrainSettings, made: Made, folder: RunFolder, out?: Output): Promise<Run> {
  useDevice(asked.device);
  setThreads(asked.threads);
  limitMemory(parseBytes(asked.memory_limit) ?? NO_LIMIT);
  const source = withFilesKept(openSource(asked.model));
  // A folder that is no model of ours is refused before rows are read and tokens made.
  architectureOf(source.config, source.configPath);
  const resumed = findResumed(asked);
  const loaded = loadWithInput(source);
  const { tokenizer } = loaded;
  const rows = await readData(asked, { ...loaded, out });
  const { documents, evalDocuments, report } = rows;
  made.documents = [documents, evalDocuments];
  const { chatTemplate } = tokenizer;
  const given = withFingerprint({
    documents,
    evalDocuments,
    tokenizer: source.readFile("tokenizer.json"),
    chatTemplate,
  });
  const { fingerprint } = given;
  const resumeNotes = resumed ? [...resumed.notes, ...checkSameData(asked, resumed, given)] : [];
  const data = new Batches(documents, {
    rows: asked.per_device_train_batch_size,
    max_length: asked.max_length,
    packing: asked.packing,
    seed: asked.seed,
  });
  if (resumed) {
    data.restore(resumed.state.batches);
    for (const place of readLeftOut(asked.output_dir)) data.leaveOut(place);
  }
  const byEpochs = Math.ceil((asked.num_train_epochs * data.batchesPerEpoch) / asked.gradient_accumulation_steps);
  const totalSteps = asked.max_steps || Math.max(1, byEpochs);
  const startStep = resumed?.state.step ?? 0;
  if (resumed && startStep > totalSteps) {
    const name = asked.max_steps > 0 ? "max_steps" : "num_train_epochs";
    throw new UserError(
      `${name}: ${asked[name]} makes ${totalSteps} steps, but ${resumed.folder} has done ${startStep}. Ask for at least as many, or resume an earlier one.`,
    );
  }
  // Its working copy takes the place of the one that is there.
  if (asked.parameters === "disk") folder.begin();
  const store = makeStore(asked, source);
  made.store = store;
  const model = during("loading weights", () => makeModel(asked, source, resumed, store));
  made.model = model;
  for (const some of [documents, evalDocuments]) checkTokens(some, model.config.vocabSize);
  checkRouter(asked, model.config);
  checkOptimizer(asked, model);
  const settings = resumed ? withGridOf(asked, resumed) : withFittingGrid(asked, model, documents, store);
  const description = describeNetwork(settings);
  const phases = phasesOf(settings, totalSteps);
  const network = {
    ...networkOf(settings, model, store),
    trains: trainsOf(phaseAt(phases, startStep), settings, model),
  };
  const teacher =
    startStep < settings.adapter_steps + settings.distill_steps
      ? teacherOf(settings, source, network, description)
      : null;
  made.teacher = teacher;
  const states = during("optimizer state", () => statesOf(settings, network));
  made.states = states;
  if (resumed && !resumed.inPlace) resumed.state.restore(states.tensors());
  const room = checkRoom({
    settings,
    startStep,
    totalSteps,
    weightBytes: weightBytes(model),
    stateBytes: states.bytes,
  });
  folder.begin();
  store.begin({ step: startStep, batches: data.state(), settings, data: fingerprint });
  return {
    settings,
    source,
    description,
    states,
    data,
    documents: made.documents,
    fingerprint,
    report,
    found: rows.found,
    totalSteps,
    phases,
    teacher,
    startStep,
    folder,
    tokenizer,
    resumedFrom: resumed && { folder: resumed.folder, inPlace: resumed.inPlace },
    notes: [
      ...folder.notes,
      ...rows.notes,
      ...resumeNotes,
      ...filesLeftOut(source),
      ...room,
      ...(resumed
        ? []
        : [...notesOf(settings, description), ...routerNotes(settings, model.config), ...clippingNotes(settings)]),
    ],
    converted: isConverted(settings, description),
    network,
    evalBatches: sequentialBatches(evalDocuments, {
      rows: settings.per_device_eval_batch_size,
      max_length: settings.max_length,
    }),
  };
}

/** `finished` says that a checkpoint or the result holds all that the run has done. */
export function freeRun(run: Run, finished = false): void {
  run.teacher?.close();
  run.states.free();
  freeModel(run.network.model);
  run.network.store.close(finished);
  for (const documents of run.documents) documents.close();
  run.folder.close();
  if (run.settings.memory_limit !== "") limitMemory(NO_LIMIT);
}

/** What a run cannot change midway: the network it trains, what its optimiser keeps, and the order of its data, in which it has a position. */
const FIXED = [
  "coupling",
  ...DESCRIBED_SETTINGS,
  "gamma_final",
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
  notes: string[];
}

function findResumed(settings: TrainSettings): Resumed | undefined {
  if (!settings.resume) return undefined;
  const found =
    settings.resume === "latest" ? latestRun(settings) : { ...openCheckpoint(settings.resume), inPlace: false };
  const { state, folder } = found;
  checkSame(withGridOf(settings, found), state.settings, folder);
  return found;
}

/** Left open, the grid of a run that is resumed is the one that it began with. */
const withGridOf = (settings: TrainSettings, { state }: Pick<Resumed, "state">): TrainSettings =>
  settings.stream_fraction_bits > 0
    ? settings
    : { ...settings, stream_fraction_bits: Number(state.settings.stream_fraction_bits ?? 0) };

/** The working copy of a run that was cut off, where it is ahead of every checkpoint; else the newest checkpoint that is whole. */
function latestRun(settings: TrainSettings): Resumed {
  const { output_dir } = settings;
  const newest = listCheckpoints(output_dir).at(-1) ?? -1;
  const unfinished = unfinishedRun(settings, newest + 1);
  if (settings.parameters !== "disk") refuseIdleCopy(output_dir, newest);
  if (unfinished)
    return {
      folder: unfinished.folder,
      inPlace: true,
      state: { ...unfinished.progress, restore: () => {} },
      notes: [],
    };
  return { ...openNewestCheckpoint(output_dir), inPlace: false };
}
