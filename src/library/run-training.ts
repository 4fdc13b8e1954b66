// A whole run, for the command and for programs: from settings to a folder with its records and result. Messages go to
// `out`, measurements to its sinks. It touches no signals, environment or current folder. The engine's threads, device
// and memory limit belong to the process, so there can be one run at a time.
import { renameSync } from "node:fs";
import { basename, join, resolve } from "node:path";

import { writeFileDurably } from "../checkpoint/files/disk.js";
import { PLAN_FILE } from "../checkpoint/run/marker.js";
import { latestCheckpoint } from "../checkpoint/run/checkpoints.js";
import { UserError } from "../errors.js";
import { resolveSources } from "../hub/datasets.js";
import { namedModel } from "../hub/named-model.js";
import type { Output } from "../metrics/output.js";
import type { RunEnd, Sink } from "../metrics/record.js";
import { checkSinks, openSinks } from "../metrics/sinks/registry.js";
import { type Collectives, inTurn, onFirst } from "../parallel/collectives.js";
import { readGeometry } from "../plan/geometry.js";
import { explainOutOfMemory, isOutOfMemory } from "../plan/out-of-memory.js";
import { planRun, type RunPlan } from "../plan/run-plan.js";
import { watching } from "../plan/watch.js";
import { planLine } from "../plan/words.js";
import { describeMemory } from "../step/memory-terms.js";
import { limitMemory, NO_LIMIT } from "../torch/memory.js";
import { checkRunFolder } from "../train/folder/run-folder.js";
import { type Outcome, train } from "../train/loop.js";
import { freeRun, prepareRun, type Run } from "../train/prepare.js";
import type { GivenRows } from "../train/prepare-data.js";
import { describeSettings, type TrainSettings } from "../train/settings/settings.js";
import type { StopSignal } from "../train/stop/stop.js";
import { fitted, fittedBefore } from "./fit.js";
import { describeRun, parametersOf } from "./run-words.js";

export interface TrainingCall {
  settings: TrainSettings;
  /** Names of the settings that were given. */
  given: ReadonlySet<string>;
  /** Rows instead of the files of `train_file` and `validation_file`. */
  rows?: GivenRows;
  ranks: Collectives;
  out: Output;
  /** Gets every event, in addition to the run's own sinks; closed at the end. */
  sink?: Sink;
  /** Called once, when there is a run to stop; `resumed` is the checkpoint from which it goes on. */
  listen(resumed: string | null): StopSignal;
}

/** Trains to the end or the stop; frees all memory. Errors: UserError. */
export async function runTraining(call: TrainingCall): Promise<Outcome> {
  const { settings: asked, given, ranks, out } = call;
  // Checked before anything is loaded, which can take minutes.
  onFirst(ranks, () => {
    checkRunFolder(asked);
    checkSinks(asked.report_to);
  });
  const settings = await inTurn(ranks, () => withFiles(call));
  const say = (text: string): void => void out.write(`${text}\n`);
  if (asked.fit) {
    if (ranks.world > 1)
      throw new UserError(
        "fit: looks at one process, and several train here. Leave fit out; revmoe plan --fit shows ways to choose from.",
      );
    Object.assign(settings, asked.resume === "" ? fitted(settings, given, say) : fittedBefore(settings, given));
  }
  say(describeSettings(settings));
  const run = await explaining(settings, null, () => prepareRun(settings, out, ranks, call.rows));
  const stop = call.listen(settings.resume === "" ? null : settings.resume);
  let sink: Sink | null = null;
  // Before the first step there is nothing to keep.
  let finished = run.startStep === 0;
  let end: RunEnd = "failed";
  try {
    sink = ranks.rank === 0 ? beginRecords(run, call) : { write() {}, close() {} };
    finished = false;
    const planned = planRun(run);
    for (const message of [...describeRun(run), `plan of a step: ${planLine(planned.plan)}`])
      sink.write({ kind: "message", step: run.startStep, message, level: "info" });
    if (ranks.rank === 0) {
      const { totalSteps } = run;
      writeRecord(join(settings.output_dir, PLAN_FILE), { totalSteps, memory: planned.plan.terms });
    }
    // Phases before the last train less, and may have a teacher, so the plan does not fit them.
    const watched = run.phases.length > 1 ? sink : watching(sink, planned);
    const outcome = await explaining(run.settings, planned, () => train(run, watched, stop));
    finished = true;
    end = outcome.stopped ? "stopped" : "finished";
    if (outcome.memory) say(`peak of a step: ${describeMemory(outcome.memory)}`);
    return outcome;
  } finally {
    try {
      sink?.close(end);
    } finally {
      freeRun(run, finished);
    }
  }
}

/** Replaces names of model and data by files, also in what the run records, so that resuming needs no network. */
async function withFiles({ settings: asked, rows, out }: TrainingCall): Promise<TrainSettings> {
  const hub = { out, preferCached: asked.resume !== "" };
  const { folder } = await namedModel(asked.model, "train", hub);
  const filesOf = async (name: "train_file" | "validation_file"): Promise<string> =>
    rows?.[name] === undefined ? resolveSources(asked[name], name, hub) : asked[name];
  return {
    ...asked,
    model: folder,
    train_file: await filesOf("train_file"),
    validation_file: await filesOf("validation_file"),
  };
}

/** Runs `work`; if memory runs out, throws an error that says what would fit. */
async function explaining<Result>(
  settings: TrainSettings,
  planned: RunPlan | null,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (failure) {
    if (!isOutOfMemory(failure)) throw failure;
    const geometry = planned?.geometry ?? readGeometry(settings);
    limitMemory(NO_LIMIT); // for what is done to explain
    const lastCheckpoint = latestCheckpoint(settings.output_dir);
    throw explainOutOfMemory(failure, { settings, geometry, plan: planned?.plan ?? null, lastCheckpoint });
  }
}

/** Writes config.json into the run's folder and begins its metrics. */
function beginRecords(run: Run, { out, sink }: TrainingCall): Sink {
  const { settings, startStep, totalSteps, resumedFrom, ranks } = run;
  // As the settings file of another run, it must not make that run remove one.
  writeRecord(join(settings.output_dir, "config.json"), { ...settings, overwrite_output_dir: false });
  const about = {
    dir: settings.output_dir,
    startStep,
    lineDue: startStep > 0 && startStep % settings.logging_steps === 0,
    evaluatesAgain: resumedFrom?.inPlace === true,
    totalSteps,
    name: settings.run_name || basename(resolve(settings.output_dir)),
    params: {
      ...{ ...settings, model_type: run.state.network.model.architecture.modelType },
      ...{ parameter_count: parametersOf(run), total_steps: totalSteps, ranks: ranks.world },
    },
    out,
  };
  return openSinks(settings.report_to, about, sink);
}

function writeRecord(path: string, record: object): void {
  writeFileDurably(`${path}.new`, `${JSON.stringify(record, null, 2)}\n`);
  renameSync(`${path}.new`, path);
}
