// From settings to everything a run needs: rows become batches, a folder becomes a network with optimizer state, at the
// step where an earlier run stopped. Makes and holds the run's folder; the caller owns the run and frees it with
// `freeRun`.
import { passingNote } from "../checkpoint/pass-through.js";
import { sourceNotes } from "../checkpoint/source.js";
import { type Batches, type BatchList, sequentialBatches } from "../data/batches.js";
import type { Documents } from "../data/documents.js";
import type { DataReport } from "../data/make-documents.js";
import type { DataFingerprint } from "../data/fingerprint.js";
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";
import type { Output } from "../metrics/output.js";
import { freeModel, type Model, parameterOf, placedParameters, savedBytes } from "../model/model.js";
import { parseBytes } from "../format.js";
import { ALONE, type Collectives, onFirst } from "../parallel/collectives.js";
import type { SharedReads } from "../parallel/shared-reads.js";
import { useDevice, setThreads } from "../torch/device.js";
import { limitMemory, NO_LIMIT } from "../torch/memory.js";
import { during } from "../torch/span.js";
import { dtype } from "../torch/tensor.js";
import { BestModel } from "./course/best-model.js";
import { checkOptimizer, clippingNotes } from "./check-optimizer.js";
import { STORES } from "../store/registry.js";
import type { ParameterStore } from "../store/store.js";
import type { OptimizerStates } from "../step/optimizer-states.js";
import { phaseAt, phasesOf, trainsOf } from "./phases.js";
import {
  checkRouter,
  isConverted,
  makeModel,
  passFrom,
  networkOf,
  notesOf,
  type ResumedFrom,
  configNotes,
  statesOf,
  withFittingGrid,
} from "./prepare-network.js";
import { checkTokens, type GivenRows } from "./prepare-data.js";
import { type BegunRows, beginRows } from "./prepare-rows.js";
import { checkFrozen } from "./frozen.js";
import { checkExpertSharing, expertsStay, expertTraffic, sharingNotes } from "./ranks/expert-sharing.js";
import { checkForRanks, folderFor, sumNotes, threadsFor } from "./ranks/prepare-ranks.js";
import { makeStore, sharedReads } from "./prepare-store.js";
import { readPrompts, type Samples } from "./samples/prompts.js";
import { stepsPerEpoch } from "./course/run-length.js";
import { type Course, RunState } from "./run-state.js";
import type { RunFolder } from "./folder/run-folder.js";
import { checkRoom } from "./folder/run-room.js";
import type { TrainSettings } from "./settings/settings.js";
import { dtypeNote, endNote, lengthNote } from "./files/source-notes.js";

/** A whole run. What changes with its steps is in `state`, `states`, `data` and the model's tensors. */
export interface Run extends Course {
  /** How ranks read what they share from each other; null where each has everything. */
  readonly shared: SharedReads | null;
  /** Held until `freeRun`. */
  readonly folder: RunFolder;
  readonly state: RunState;
  readonly data: Batches;
  /** The documents that batches are made of; closed by `freeRun`. */
  readonly documents: readonly Documents[];
  /** Identifies `data` and the held-out rows, as checkpoints keep it. */
  readonly fingerprint: DataFingerprint;
  readonly evalBatches: BatchList;
  readonly report: DataReport;
  /** What the files of rows are, one line per source. */
  readonly found: readonly string[];
  /** What a person should know of these settings without asking. */
  readonly notes: string[];
  /** Whether weights of the ordinary network begin to be trained as another network. */
  readonly converted: boolean;
  /** Number of steps that the resumed run has done already. */
  readonly startStep: number;
  readonly bestModel: BestModel;
  /** Where the run went on from; undefined for a new run. */
  readonly resumedFrom?: ResumedFrom;
  readonly tokenizer: Tokenizer;
  /** The prompts that the network continues while it trains. */
  readonly samples: Samples;
}

/**
 * Makes the run and holds its folder: nobody else can make one there until `freeRun`. `out` shows the progress of
 * reading rows; `rows` replace files. With several ranks, the first holds the folder and the others write nothing.
 * Errors: UserError; then nothing is left behind.
 */
export async function prepareRun(asked: TrainSettings, out?: Output, ranks = ALONE, rows?: GivenRows): Promise<Run> {
  checkForRanks(asked, ranks);
  const folder = folderFor(ranks, asked);
  const made: Made = {};
  try {
    return await makeRun(asked, made, folder, ranks, out, rows);
  } catch (failure) {
    for (const documents of made.documents ?? []) documents.close();
    made.state?.close();
    made.states?.free();
    if (made.model) freeModel(made.model);
    // A working copy of many gigabytes must not stay after a wrong setting.
    made.store?.close(false);
    folder.abandon();
    if (asked.memory_limit !== "") limitMemory(NO_LIMIT);
    throw failure;
  }
}

/** What must be freed when the rest of the preparation is refused. */
interface Made {
  documents?: Documents[];
  store?: ParameterStore;
  model?: Model;
  states?: OptimizerStates;
  state?: RunState;
}

async function makeRun(
  asked: TrainSettings,
  made: Made,
  folder: RunFolder,
  ranks: Collectives,
  out?: Output,
  rows?: GivenRows,
): Promise<Run> {
  useDevice(asked.device);
  setThreads(threadsFor(ranks, asked));
  limitMemory(parseBytes(asked.memory_limit) ?? NO_LIMIT);
  const begun = await beginRows(asked, made, ranks, out, rows);
  const { source, data, resumed, startStep, totalSteps, read, tokenizer, fingerprint } = begun;
  const samples = readPrompts(asked, { source, tokenizer, formats: read.report.formats });
  // The working copy of this run replaces the one that is there.
  if (STORES[asked.parameters].lies === "files") onFirst(ranks, () => folder.begin());
  const { course, state, store } = makeTrained(asked, made, begun, ranks);
  const { settings, states } = course;
  const { model } = state.network;
  const saving = {
    settings,
    stepsPerEpoch: stepsPerEpoch(settings, data.batchesPerEpoch, ranks),
    startStep,
    totalSteps,
    weightBytes: savedBytes(model),
    stateBytes: states.savedBytes,
  };
  // The folder is the first rank's, which changes it as soon as the run begins.
  const room = onFirst(ranks, () => checkRoom(saving));
  folder.begin();
  const bestModel = new BestModel(settings, resumed?.state.best);
  store.begin({ step: startStep, batches: data.state(), settings, data: fingerprint, best: bestModel.best });
  const ofFiles = [...passingNote(model.passed?.tensors ?? [], asked.model), ...sourceNotes(source)];
  return {
    ...course,
    state,
    shared: sharedReads(ranks, state.network, states),
    data,
    documents: [read.documents, read.evalDocuments],
    fingerprint,
    bestModel,
    report: read.report,
    found: read.found,
    startStep,
    folder,
    tokenizer,
    samples,
    resumedFrom: resumed && { folder: resumed.folder, inPlace: resumed.inPlace },
    notes: [
      ...folder.notes,
      ...read.notes,
      ...begun.resumeNotes,
      ...ofFiles,
      ...begun.addedNotes,
      ...room,
      ...expertNotes(settings, model, ranks),
      ...sumNotes(settings, ranks),
      ...(resumed ? [] : firstNotes(settings, state, begun)),
    ],
    converted: isConverted(settings, state.description),
    evalBatches: sequentialBatches(read.evalDocuments, {
      rows: settings.per_device_eval_batch_size,
      max_length: settings.max_length,
    }),
  };
}

/** Notes on how ranks use each other's experts. */
function expertNotes(settings: TrainSettings, model: Model, { world }: Collectives): string[] {
  const { architecture } = model;
  const planned = placedParameters(architecture).map((placed) => ({
    placed,
    dtype: dtype(parameterOf(model, placed)),
  }));
  const stay = expertsStay(settings, architecture, planned, world);
  return sharingNotes(settings, { stay, ...expertTraffic(settings, architecture, planned, world) }, world);
}

/** The network and its optimizer state as they are at the start, in the store that holds them. */
function makeTrained(
  asked: TrainSettings,
  made: Made,
  { source, resumed, read: { documents, evalDocuments }, startStep, totalSteps }: BegunRows,
  ranks: Collectives,
): { course: Course; state: RunState; store: ParameterStore } {
  const store = makeStore(asked, source, ranks);
  made.store = store;
  const model = during("loading weights", () => makeModel(asked, source, resumed, store));
  made.model = model;
  if (resumed) passFrom(source, model);
  for (const some of [documents, evalDocuments]) checkTokens(some, model.architecture.vocabSize);
  checkRouter(asked, model.architecture);
  checkExpertSharing(asked, model.architecture);
  checkOptimizer(asked, model);
  checkFrozen(asked.freeze, model);
  const settings = resumed?.settings ?? withFittingGrid(asked, model, documents, store, ranks);
  const phases = phasesOf(settings, totalSteps);
  const network = {
    ...networkOf(settings, model, store),
    trains: trainsOf(phaseAt(phases, startStep), settings, model),
  };
  const states = during("optimizer state", () => statesOf(settings, network));
  made.states = states;
  const course = { settings, source, totalSteps, phases, states, ranks };
  const state = new RunState(course, network, startStep);
  made.state = state;
  if (resumed && !resumed.inPlace) resumed.state.restore(states.tensors());
  return { course, state, store };
}

/** Notes for a new run, which are not repeated when it goes on. */
function firstNotes(
  settings: Readonly<TrainSettings>,
  { network, description }: RunState,
  { source, read, tokenizer, endNotes }: BegunRows,
): string[] {
  const { architecture } = network.model;
  return [
    ...notesOf(settings, description),
    ...dtypeNote(settings, source),
    ...lengthNote(settings, architecture),
    ...endNote(read.report, tokenizer),
    ...endNotes,
    ...configNotes(settings, architecture),
    ...clippingNotes(settings),
  ];
}

/** Frees all of a run. `finished`: a checkpoint or the result holds everything that the run has done. */
export function freeRun(run: Run, finished = false): void {
  const { model, store } = run.state.network;
  run.state.close();
  run.states.free();
  freeModel(model);
  store.close(finished);
  for (const documents of run.documents) documents.close();
  run.folder.close();
  if (run.settings.memory_limit !== "") limitMemory(NO_LIMIT);
}
