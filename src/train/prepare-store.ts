// Where the parameters of a run lie: from settings to the tier, and from a working copy that a crash left behind to the step
// that it can go on from.
import { existsSync } from "node:fs";
import { join } from "node:path";

import { checkpointFolder, STATE_FILE } from "../checkpoint/run/checkpoints.js";
import { readProgress, type ReadProgress } from "../checkpoint/run/state.js";
import type { ModelSource } from "../checkpoint/source.js";
import { UserError } from "../errors.js";
import { type Architecture, architectureOf, type ModelConfig } from "../model/architecture.js";
import { HostTier } from "../store/host.js";
import type { Tier } from "../store/store.js";
import { rollBack } from "../store/disk/undo-log.js";
import { WorkingCopy, workingFolder } from "../store/disk/working-copy.js";
import { fastestDtype } from "../torch/device.js";
import { makeOptimizer } from "../optim/registry.js";
import { describeNetwork, extensionOf } from "../network/description.js";
import { plannedStateBytes } from "../step/optimizer-states.js";
import type { TrainSettings } from "./settings/settings.js";

/** The tier of a run, undefined where parameters stay on the device; the caller closes it. */
export function makeTier(settings: TrainSettings, source: ModelSource): Tier | undefined {
  if (settings.parameters === "device") return undefined;
  const architecture = extensionOf(
    describeNetwork(settings),
    settings.adapter_init,
  )(architectureOf(source.config, source.configPath));
  const config = architecture.readConfig(source.config, source.configPath);
  const host = hostTierOf(settings, architecture, config);
  if (host) return host;
  const { device, compute_dtype: asked } = settings;
  const optimizer = makeOptimizer(settings, asked === "auto" ? fastestDtype(device) : asked);
  return new WorkingCopy(workingFolder(settings.output_dir), architecture, config, {
    durability: settings.durability,
    stateBytes: (dtype) =>
      plannedStateBytes(optimizer, { architecture, config }, dtype, {
        weightsCorrection: settings.weights_correction === "8bit",
      }),
  });
}

/** The tier of a run whose parameters are in main memory. */
export const hostTierOf = (
  { parameters, device }: TrainSettings,
  architecture: Architecture,
  config: ModelConfig,
): Tier | undefined => (parameters === "host" ? new HostTier(device, architecture, config) : undefined);

/** Refuses to go on from a checkpoint before the step that is in the working copy, which only a run on disk goes on from. */
export function refuseIdleCopy(outputDir: string, newest: number): void {
  const path = join(workingFolder(outputDir), STATE_FILE);
  const step = existsSync(path) ? readProgress(path).step : -1;
  if (step <= newest) return;
  const back = newest < 0 ? "" : `, or name ${checkpointFolder(outputDir, newest)} to go back to it`;
  throw new UserError(
    `resume: ${workingFolder(outputDir)} holds step ${step} of this run, whose parameters were on disk` +
      `${newest < 0 ? " and which has no checkpoint" : `; the newest checkpoint is of step ${newest}`}. Add --parameters disk to go on from step ${step}${back}.`,
  );
}

/** Where a run can go on in its working copy, which is brought back to the end of that step; undefined where there is none, or it is before `step`. */
export function unfinishedRun(
  { parameters, output_dir }: TrainSettings,
  step: number,
): { folder: string; progress: ReadProgress } | undefined {
  const folder = workingFolder(output_dir);
  const path = join(folder, STATE_FILE);
  if (parameters !== "disk" || !existsSync(path)) return undefined;
  const progress = readProgress(path);
  if (progress.step < step) return undefined;
  rollBack(folder, progress.step);
  return { folder, progress };
}
