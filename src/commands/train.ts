// `revmoe train`: settings in, a run folder out. Prints what it found and chose, then one progress line. How it is stopped is in
// stop-signals.ts.
import { renameSync } from "node:fs";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";

import { writeFileDurably } from "../checkpoint/disk.js";
import { formatBytes, formatCount } from "../format.js";
import { consoleSink } from "../metrics/console.js";
import { jsonlSink } from "../metrics/jsonl.js";
import type { RunEvent, Sink } from "../metrics/record.js";
import type { DataReport } from "../data/documents.js";
import type { RunPlan } from "../plan/run-plan.js";
import type { Run } from "../train/prepare.js";
import { describeSettings, TRAIN_TABLE, type TrainSettings } from "../train/settings.js";
import type { TRAIN_ROWS } from "../train/settings-rows.js";
import type { Command } from "./command.js";

export const command: Command<typeof TRAIN_ROWS> = {
  name: "train",
  summary: "Fine-tune all parameters of a Mixture-of-Experts model",
  usage: "revmoe train [CONFIG.yaml] [--setting value ...]",
  example: "revmoe train --model ./Qwen1.5-MoE-A2.7B --train-file chats.jsonl --validation-rows 50 --output-dir runs/first",
  settings: TRAIN_TABLE,
  positional: { label: "CONFIG.yaml", about: "settings as a YAML file; flags come before it" },
  run: async ({ settings: asked, out }) => {
    const { checkRunFolder } = await import("../train/run-folder.js");
    checkRunFolder(asked); // before anything is loaded, which can take minutes
    const { resolveModel } = await import("../hub/resolve.js");
    // From here on the model is a folder, also in what the run records: resuming needs no network.
    const settings = { ...asked, model: await resolveModel(asked.model, { out, preferCached: asked.resume !== "" }) };
    const { freeRun, prepareRun } = await import("../train/prepare.js");
    const { train } = await import("../train/loop.js");
    const { describeMemory } = await import("../train/memory-terms.js");
    const say = (text: string): void => void out.write(`${text}\n`);
    say(describeSettings(settings));
    const { planRun } = await import("../plan/run-plan.js");
    const { planLine } = await import("../plan/words.js");
    const { watching } = await import("../plan/watch.js");
    const run = await explaining(settings, null, () => Promise.resolve(prepareRun(settings)));
    const { requestedStop } = await import("./stop-signals.js");
    const stop = requestedStop(settings.resume === "" ? null : settings.resume);
    let sink: Sink | null = null;
    // Before the first step there is nothing to keep.
    let finished = run.startStep === 0;
    try {
      sink = openSinks(run, consoleSink({ out, totalSteps: run.totalSteps, env: process.env }));
      finished = false;
      for (const line of await describeRun(run)) say(line);
      const planned = planRun(run);
      say(`plan of a step: ${planLine(planned.plan)}`);
      // Phases before the last train less, and may have a teacher beside them.
      const watched = run.phases.length > 1 ? sink : watching(sink, planned);
      // Else Node's room for short-lived objects, 2 to 32 MB, grows and shrinks while a run goes on, and hides what a leak would be.
      setFlagsFromString("--semi-space-growth-factor=1");
      const { stopped, folder, memory } = await explaining(run.settings, planned, () => train(run, watched, stop));
      finished = true;
      if (memory) say(`peak of a step: ${describeMemory(memory)}`);
      if (!stopped) return 0;
      say(folder === "" ? "stopped before the first step" : `stopped; go on with: revmoe train ... --resume ${folder}`);
      return stop.exitCode;
    } finally {
      sink?.close();
      stop.forget();
      freeRun(run, finished);
    }
  },
};

/** Runs `work`; running out of memory becomes a sentence that says what would fit. */
async function explaining<Result>(settings: TrainSettings, planned: RunPlan | null, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (failure) {
    const { explainOutOfMemory, isOutOfMemory } = await import("../plan/out-of-memory.js");
    if (!isOutOfMemory(failure)) throw failure;
    const { latestCheckpoint } = await import("../checkpoint/checkpoints.js");
    const { readGeometry } = await import("../plan/geometry.js");
    const geometry = planned?.geometry ?? readGeometry(settings);
    const { limitMemory, NO_LIMIT } = await import("../torch/memory.js");
    limitMemory(NO_LIMIT); // for what is done to explain
    const lastCheckpoint = latestCheckpoint(settings.output_dir);
    throw explainOutOfMemory(failure, { settings, geometry, plan: planned?.plan ?? null, lastCheckpoint });
  }
}

/** Writes config.json into the run's folder and begins its metrics. */
function openSinks({ settings, startStep, resumedFrom }: Run, console: Sink): Sink {
  const path = join(settings.output_dir, "config.json");
  // As the settings of another run, the file must not remove one.
  writeFileDurably(`${path}.new`, `${JSON.stringify({ ...settings, overwrite_output_dir: false }, null, 2)}\n`);
  renameSync(`${path}.new`, path);
  const warn = (message: string): void => console.write({ kind: "message", step: startStep, message, level: "warning" });
  const lineDue = startStep > 0 && startStep % settings.logging_steps === 0;
  const course = { resumeStep: startStep || -1, lineDue, evaluatesAgain: resumedFrom?.inPlace };
  return both(jsonlSink(join(settings.output_dir, "metrics.jsonl"), { ...course, warn }), console);
}

async function describeRun(run: Run): Promise<string[]> {
  const { engineInfo } = await import("../torch/device.js");
  const { allParameters, weightBytes } = await import("../model/model.js");
  const { dtype, numel } = await import("../torch/tensor.js");
  const { network, states, totalSteps, startStep, data, settings } = run;
  const { version, threads } = engineInfo();
  const parameters = allParameters(network.model).reduce((sum, tensor) => sum + numel(tensor), 0);
  const { coupling, format } = network;
  const bits = settings.method === "reversible" && format.exact ? coupling.storedBits : 0;
  return [
    `engine: libtorch ${version} on ${network.device}, ${threads} thread(s), computing in ${network.computeDtype}`,
    `model: ${network.model.config.modelType}, ${formatCount(parameters)} parameters in ${dtype(Object.values(network.model.outer)[0])} ` +
      `(${formatBytes(weightBytes(network.model))}), optimizer state ${formatBytes(states.bytes)}`,
    `network: ${coupling.name}, ${settings.method}, streams ${format.name}${bits > 0 ? `, ${bits} stored bits per element and block` : ""}`,
    ...(settings.parameters === "disk"
      ? [
          `parameters: on disk in ${join(settings.output_dir, "working")}; after a crash, --resume latest goes on from the last ${settings.durability}`,
        ]
      : []),
    ...run.notes.map((note) => `note: ${note}`),
    describeData(run.report),
    `steps: ${totalSteps}${startStep > 0 ? `, resuming after step ${startStep}` : ""}; ${data.batchesPerEpoch} micro-batches an epoch, ` +
      `${settings.gradient_accumulation_steps} to a step; ${run.evalBatches.length} held-out batches`,
  ];
}

function describeData({ format, rows, tokens, trainedTokens, truncated, split, dropped }: DataReport): string {
  const share = ((100 * trainedTokens) / tokens).toFixed(1);
  const notes = [
    [truncated, "truncated"],
    [split, "split"],
    [dropped, "dropped"],
  ] as const;
  const extra = notes
    .filter(([count]) => count > 0)
    .map(([count, word]) => `, ${count} ${word}`)
    .join("");
  return `data: ${rows} rows of format ${format}, ${formatCount(tokens)} tokens, ${share} % trained${extra}`;
}

function both(...sinks: Sink[]): Sink {
  return {
    write: (event: RunEvent) => sinks.forEach((sink) => sink.write(event)),
    close: () => sinks.forEach((sink) => sink.close()),
  };
}
