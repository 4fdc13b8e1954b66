// From settings to everything a run needs: rows become batches, a folder becomes a network with optimiser state, at the
// step where an earlier run stopped. Makes the run's folder and holds it; the caller owns the run and frees it with `freeRun`.
import { passingNote, passingSources } from "../checkpoint/pass-through.js";
import { filesLeftOut, openSource, withFilesKept } from "../checkpoint/source.js";
import { Batches, type BatchList, sequentialBatches } from "../data/batches.js";
import type { Documents } from "../data/documents.js";
import type { DataReport } from "../data/make-documents.js";
import type { DataFingerprint } from "../data/fingerprint.js";
import { loadWithInput } from "../data/prepared/tokenizer-input.js";
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";
import { readArchitecture } from "../families/registry.js";
import type { Output } from "../metrics/output.js";
import { freeModel, type Model, savedBytes } from "../model/model.js";
import { parseBytes } from "../format.js";
import { useDevice, setThreads } from "../torch/device.js";
import { limitMemory, NO_LIMIT } from "../torch/memory.js";
import { during } from "../torch/span.js";
import { BestModel } from "./course/best-model.js";
import { checkOptimizer, clippingNotes } from "./check-optimizer.js";
import { readLeftOut } from "./recovery/left-out.js";
import { STORES } from "../store/registry.js";
import type { ParameterStore } from "../store/store.js";
import type { OptimizerStates } from "../step/optimizer-states.js";
import { phaseAt, phasesOf, trainsOf } from "./phases.js";
import {
  checkRouter,
  isConverted,
  makeModel,
  networkOf,
  notesOf,
  type ResumedFrom,
  configNotes,
  statesOf,
  withFittingGrid,
} from "./prepare-network.js";
import { checkTokens, readData } from "./prepare-data.js";
import { checkFrozen } from "./frozen.js";
import { lengthNotes } from "./course/going-on.js";
import { makeStore } from "./prepare-store.js";
import { findResumed } from "./prepare-resumed.js";
import { stepsPerEpoch, totalStepsOf } from "./course/run-length.js";
import { withAddedTokens } from "./files/added-tokens.js";
import { withGivenFiles } from "./files/given-files.js";
import { withTrainedEnd } from "./files/result-files.js";
import { type Course, RunState } from "./run-state.js";
import { checkSameData, withFingerprint } from "./folder/resume-checks.js";
import { openRunFolder, type RunFolder } from "./folder/run-folder.js";
import { checkRoom } from "./folder/run-room.js";
import type { TrainSettings } from "./settings/settings.js";
import { dtypeNote, endNote, lengthNote } from "./files/source-notes.js";

/** All of a run. What changes with its steps is in `state`, `states` and `data`, and in the model's tensors. */
export interface Run extends Course {
  /** Held until `freeRun`. */
  readonly folder: RunFolder;
  readonly state: RunState;
  readonly data: Batches;
  /** What batches are made of; closed by `freeRun`. */
  readonly documents: readonly Documents[];
  /** What `data` and the held-out rows are, as checkpoints keep it. */
  readonly fingerprint: DataFingerprint;
  readonly evalBatches: BatchList;
  readonly report: DataReport;
  /** What the files of rows are, a line for each source. */
  readonly found: readonly string[];
  /** What the person should know of these settings and did not ask. */
  readonly notes: string[];
  /** Whether weights of the ordinary network begin to be trained as another one. */
  readonly converted: boolean;
  /** Steps already done by the run that is resumed. */
  readonly startStep: number;
  readonly bestModel: BestModel;
  /** Where the run went on from; nothing for one that began. */
  readonly resumedFrom?: ResumedFrom;
  readonly tokenizer: Tokenizer;
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
    made.state?.close();
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
  states?: OptimizerStates;
  state?: RunState;
}

async function makeRun(asked: TrainSettings, made: Made, folder: RunFolder, out?: Output): Promise<Run> {
  useDevice(asked.device);
  setThreads(asked.threads);
  limitMemory(parseBytes(asked.memory_limit) ?? NO_LIMIT);
  const opened = withFilesKept(openSource(asked.model));
  // A folder that is no model of ours is refused before rows are read and tokens made.
  readArchitecture(opened.config, opened.configPath);
  const added = withAddedTokens(opened, asked);
  const given = withGivenFiles(added.source, asked);
  const resumed = findResumed(asked);
  const loaded = loadWithInput(given);
  const { tokenizer } = loaded;
  const read = await readData(asked, { ...loaded, out });
  const { documents, evalDocuments, report } = read;
  made.documents = [documents, evalDocuments];
  const { source, notes: endNotes } = withTrainedEnd(given, tokenizer, documents);
  const { chatTemplate } = tokenizer;
  const rows = withFingerprint({
    documents,
    evalDocuments,
    tokenizer: source.readFile("tokenizer.json"),
    chatTemplate,
  });
  const { fingerprint } = rows;
  const resumeNotes = resumed ? [...resumed.notes, ...checkSameData(asked, resumed, rows)] : [];
  const data = new Batches(documents, {
    rows: asked.per_device_train_batch_size,
    max_length: asked.max_length,
    packing: asked.packing,
    seed: asked.seed,
    shuffle: asked.shuffle,
  });
  if (resumed) {
    data.restore(resumed.state.batches);
    for (const place of readLeftOut(asked.output_dir)) data.leaveOut(place);
  }
  const totalSteps = totalStepsOf(asked, data.batchesPerEpoch);
  const startStep = resumed?.state.step ?? 0;
  if (resumed) resumeNotes.push(...lengthNotes(resumed, totalSteps, data.batchesPerEpoch));
  // Its working copy takes the place of the one that is there.
  if (STORES[asked.parameters].lies === "files") folder.begin();
  const store = makeStore(asked, source);
  made.store = store;
  const model = during("loading weights", () => makeModel(asked, source, resumed, store));
  made.model = model;
  for (const some of [documents, evalDocuments]) checkTokens(some, model.architecture.vocabSize);
  checkRouter(asked, model.architecture);
  checkOptimizer(asked, model);
  checkFrozen(asked.freeze, model);
  const settings = resumed?.settings ?? withFittingGrid(asked, model, documents, store);
  const phases = phasesOf(settings, totalSteps);
  const network = {
    ...networkOf(settings, model, store),
    trains: trainsOf(phaseAt(phases, startStep), settings, model),
  };
  const states = during("optimizer state", () => statesOf(settings, network));
  made.states = states;
  const course = { settings, source, totalSteps, phases, states };
  const state = new RunState(course, network, startStep);
  made.state = state;
  if (resumed && !resumed.inPlace) resumed.state.restore(states.tensors());
  const room = checkRoom({
    settings,
    stepsPerEpoch: stepsPerEpoch(settings, data.batchesPerEpoch),
    startStep,
    totalSteps,
    weightBytes: savedBytes(model),
    stateBytes: states.bytes,
  });
  folder.begin();
  const bestModel = new BestModel(settings, resumed?.state.best);
  store.begin({ step: startStep, batches: data.state(), settings, data: fingerprint, best: bestModel.best });
  return {
    ...course,
    state,
    data,
    documents: made.documents,
    fingerprint,
    bestModel,
    report,
    found: read.found,
    startStep,
    folder,
    tokenizer,
    resumedFrom: resumed && { folder: resumed.folder, inPlace: resumed.inPlace },
    notes: [
      ...folder.notes,
      ...read.notes,
      ...resumeNotes,
      ...passingNote(passingSources(model.passed), asked.model),
      ...filesLeftOut(source),
      ...added.notes,
      ...room,
      ...(resumed
        ? []
        : [
            ...notesOf(settings, state.description),
            ...dtypeNote(settings, source),
            ...lengthNote(settings, model.architecture),
            ...endNote(report, tokenizer),
            ...endNotes,
            ...configNotes(settings, model.architecture),
            ...clippingNotes(settings),
          ]),
    ],
    converted: isConverted(settings, state.description),
    evalBatches: sequentialBatches(evalDocuments, {
      rows: settings.per_device_eval_batch_size,
      max_length: settings.max_length,
    }),
  };
}

/** `finished` says that a checkpoint or the result holds all that the run has done. */
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
