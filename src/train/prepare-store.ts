// Where the parameters of a run lie: from settings to the store, and from the working copy that a crash left to the
// step from which it can go on.
import { existsSync } from "node:fs";
import { join } from "node:path";

import { checkpointFolder, STATE_FILE } from "../checkpoint/run/checkpoints.js";
import { readProgress, type ReadProgress } from "../checkpoint/run/state.js";
import type { ModelSource } from "../checkpoint/source.js";
import { UserError } from "../errors.js";
import { readArchitecture } from "../families/registry.js";
import { rollBack } from "../store/disk/undo-log.js";
import { workingFolder } from "../checkpoint/run/marker.js";
import { STORES } from "../store/registry.js";
import { nameOf, type ParameterStore, type SharedOptions } from "../store/store.js";
import { fastestDtype } from "../torch/device.js";
import type { Tensor } from "../torch/tensor.js";
import { makeOptimizer, optimizerEntry } from "../optim/registry.js";
import type { Optimizer } from "../optim/optimizer.js";
import type { Architecture } from "../model/architecture.js";
import { parameterOf, placedParameters } from "../model/model.js";
import type { Network } from "../network/network.js";
import type { Collectives } from "../parallel/collectives.js";
import { SharedReads } from "../parallel/shared-reads.js";
import { describeNetwork, extensionOf } from "../network/description.js";
import { type OptimizerStates, plannedState, plannedStateBytes, type StateOptions } from "../step/optimizer-states.js";
import { expertsStay } from "./ranks/expert-sharing.js";
import type { TrainSettings } from "./settings/settings.js";

/** What a store that ranks share must know of a run with these settings. */
export function sharedOptions(
  settings: TrainSettings,
  architecture: Architecture,
  ranks: SharedOptions["ranks"],
): SharedOptions {
  const optimizer = runOptimizer(settings);
  return {
    ranks,
    stateOf: (placed, dtype) => plannedState(optimizer, architecture, placed, dtype, correctionOf(settings)),
    expertsStay: (planned) => expertsStay(settings, architecture, planned, ranks.world),
    stateBlock: optimizerEntry(settings.optimizer).stateBlock ?? 1,
  };
}

const runOptimizer = (settings: TrainSettings): Optimizer =>
  makeOptimizer(settings, settings.compute_dtype === "auto" ? fastestDtype(settings.device) : settings.compute_dtype);

const correctionOf = ({ weights_correction }: TrainSettings): StateOptions => ({
  weightsCorrection: weights_correction === "8bit",
});

/** The store of a run; the caller closes it. */
export function makeStore(settings: TrainSettings, source: ModelSource, ranks: Collectives): ParameterStore {
  const { parameters, device, durability, output_dir } = settings;
  const architecture = extensionOf(
    describeNetwork(settings),
    settings.adapter_init,
  )(readArchitecture(source.config, source.configPath));
  return STORES[parameters].make({
    device,
    architecture,
    folder: workingFolder(output_dir),
    durability,
    blocksOnDevice: settings.blocks_on_device,
    stateBytes: (dtype) => plannedStateBytes(runOptimizer(settings), architecture, dtype, correctionOf(settings)),
    shared: sharedOptions(settings, architecture, ranks),
  });
}

/** How the ranks of a run read from each other between steps; null where each has everything. */
export function sharedReads(
  ranks: Collectives,
  { model, store }: Network,
  states: OptimizerStates,
): SharedReads | null {
  if (store.sharing === null) return null;
  const own = (): Map<string, Tensor> =>
    new Map([
      ...placedParameters(model.architecture).map((placed) => [nameOf(placed), parameterOf(model, placed)] as const),
      ...states.tensors().map(({ name, tensor }) => [name, tensor] as const),
    ]);
  return new SharedReads(ranks, own);
}

/**
 * Whether a run goes on with the files in which its parameters lie. Ranks go on from checkpoints, as one may have made
 * a step that another has not.
 */
export const goesOnInPlace = ({ parameters }: Pick<TrainSettings, "parameters">): boolean =>
  STORES[parameters].lies === "files" && !STORES[parameters].shared;

/**
 * Errors: UserError if the working copy is at a later step than checkpoint `newest`; only a run on disk can go on from
 * it.
 */
export function refuseIdleCopy(outputDir: string, newest: number): void {
  const path = join(workingFolder(outputDir), STATE_FILE);
  const step = existsSync(path) ? readProgress(path).step : -1;
  if (step <= newest) return;
  const back = newest < 0 ? "" : `, or name ${checkpointFolder(outputDir, newest)} to go back to it`;
  throw new UserError(
    `resume: ${workingFolder(outputDir)} holds step ${step} of this run, whose parameters were on disk` +
      `${newest < 0 ? " and which has no checkpoint" : `; the newest checkpoint is of step ${newest}`}. Set parameters to disk to go on from step ${step}${back}.`,
  );
}

/**
 * The working copy that a run can go on in, brought back to the end of its last whole step; undefined if there is none,
 * or its step is below `step`.
 */
export function unfinishedRun(
  settings: TrainSettings,
  step: number,
): { folder: string; progress: ReadProgress } | undefined {
  const folder = workingFolder(settings.output_dir);
  const path = join(folder, STATE_FILE);
  if (!goesOnInPlace(settings) || !existsSync(path)) return undefined;
  const progress = readProgress(path);
  if (progress.step < step) return undefined;
  rollBack(folder, progress.step);
  return { folder, progress };
}
