// What a run writes: checkpoint-N, from which it resumes exactly, and final/, the result. Both are Hugging Face folders of
// the ordinary architecture with revmoe.json beside, saved whole or not at all.
import { join } from "node:path";

import { pruneCheckpoints, writeRunState } from "../checkpoint/run-state.js";
import { saveModel } from "../checkpoint/save.js";
import { writeNetworkFile } from "./network-file.js";
import type { Run } from "./prepare.js";

/** Saves the run after `step`; returns the folder. */
export function saveCheckpoint(run: Run, step: number): string {
  const { settings, source, network, states, data } = run;
  const folder = join(settings.output_dir, `checkpoint-${step}`);
  saveModel(folder, network.model, {
    source,
    verify: false,
    extraFiles: (side) => {
      writeNetworkFile(side, run.description);
      writeRunState(side, { step, batches: data.state(), settings, tensors: states.tensors() });
    },
  });
  if (settings.save_total_limit > 0) pruneCheckpoints(settings.output_dir, settings.save_total_limit, step);
  return folder;
}

/** Saves the trained model, reopened and compared before success is reported; returns the folder. */
export function saveFinal(run: Run, name = "final"): string {
  const folder = join(run.settings.output_dir, name);
  saveModel(folder, run.network.model, { source: run.source, extraFiles: (side) => writeNetworkFile(side, run.description) });
  return folder;
}
