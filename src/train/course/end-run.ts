// The end of a run: which of its networks is the result, what is said of it, and saving final/.
import { existsSync } from "node:fs";

import { checkpointFolder } from "../../checkpoint/run/checkpoints.js";
import type { Sink } from "../../metrics/record.js";
import { formatLoss } from "../../metrics/sinks/console.js";
import { ordinary } from "../../reversible/couplings/ordinary.js";
import { evaluateRun } from "./evaluation.js";
import { onFirstSavingLater } from "../folder/shared-saves.js";
import { saveResult } from "../folder/safe-saves.js";
import type { Run } from "../prepare.js";
import { goBack } from "../recovery/go-back.js";
import { sampleRun } from "../samples/sample.js";
import type { StopSignal } from "../stop/stop.js";

/** Ends a run after its last step, `done`; returns the folder of the result. Errors: as `saveResult`. */
export async function endRun(run: Run, sink: Sink, done: number, stop: StopSignal): Promise<string> {
  const say = (message: string, level: "info" | "warning" = "info"): void =>
    sink.write({ kind: "message", step: done, message, level });
  if (run.settings.load_best_model_at_end) say(...loadBest(run, done));
  sampleRun(run, sink, done);
  if (run.state.network.coupling !== ordinary) evaluateRun(run, sink, done, "ordinary");
  const folder = await onFirstSavingLater(run, () => saveResult(run, sink, stop));
  say(`saved ${folder}`);
  const unlike = unlikeTrained(run, folder);
  if (unlike !== null) say(unlike, "warning");
  return folder;
}

function loadBest(run: Run, done: number): [message: string, level: "info" | "warning"] {
  const { settings, bestModel } = run;
  const { best } = bestModel;
  if (best === null) return ["no evaluation has a value that is finite, so the result is the last network", "warning"];
  const { step, value } = best;
  const words = `${settings.metric_for_best_model} ${formatLoss(value)} at step ${step}`;
  if (step === done) return [`the last network is the best: ${words}`, "info"];
  const folder = checkpointFolder(settings.output_dir, step);
  if (!existsSync(folder))
    return [
      `the best network, ${words}, is not there any more: ${folder} was removed, so the result is the last one`,
      "warning",
    ];
  goBack(run, { step, folder });
  return [`the result is the best network: ${words}, of ${folder}`, "info"];
}

/** A warning if nothing has measured how far the trained network is from the ordinary one that other tools load. */
function unlikeTrained({ state, evalBatches }: Run, folder: string): string | null {
  const { coupling } = state.network;
  if (coupling.conversion !== "different" || evalBatches.length > 0) return null;
  return (
    `${folder} loads in other tools as the ordinary network, which is not the one that was trained: ${coupling.name} computes something else, and nothing was ` +
    "held out to say how far apart they are. Measure it with revmoe eval --as both, or make the trained one with revmoe export --as trained."
  );
}
