// `revmoe train`: settings in, a run folder out. Prints what it found and chose, then one progress line. How it is stopped is in
// stop-signals.ts.
import { renameSync } from "node:fs";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";

import { writeFileDurably } from "../../checkpoint/files/disk.js";
import { formatBytes, formatCount, formatNumberOf } from "../../format.js";
import type { Output } from "../../metrics/output.js";
import { openSinks } from "../../metrics/sinks/registry.js";
import type { Sink } from "../../metrics/record.js";
import type { DataReport } from "../../data/make-documents.js";
import { quoted } from "../../data/limits.js";
import { planRun, type RunPlan } from "../../plan/run-plan.js";
import { freeRun, prepareRun, type Run } from "../../train/prepare.js";
import { batchesPerStep, stepsPerEpoch } from "../../train/course/run-length.js";
import { type Collectives, inTurn, onFirst } from "../../parallel/collectives.js";
import { joinRanks } from "../../parallel/join.js";
import { type RankPlace, rankPlace } from "../../parallel/launch-names.js";
import { describeSettings, type TrainSettings } from "../../train/settings/settings.js";
import type { TRAIN_ROWS } from "../../train/settings/rows.js";
import type { CommandInput } from "../command.js";
import { checkRunFolder } from "../../train/folder/run-folder.js";
import { resolveSources } from "../../hub/datasets.js";
import { train } from "../../train/loop.js";
import { STORES } from "../../store/registry.js";
import { describeMemory } from "../../step/memory-terms.js";
import { planLine } from "../../plan/words.js";
import { watching } from "../../plan/watch.js";
import { machineOf } from "../../plan/ways/machine.js";
import { CHANGED, changesBetween, describeMachine } from "../../plan/ways/words.js";
import { findWays } from "../../plan/ways/ways.js";
import { resolverOf } from "../../plan/settings.js";
import { UserError } from "../../errors.js";
import { readWholeFile, statOf } from "../../read-file.js";
import { namedModel } from "../model/named-model.js";
import { requestedStop } from "../../train/stop/stop-signals.js";
import { explainOutOfMemory, isOutOfMemory } from "../../plan/out-of-memory.js";
import { latestCheckpoint } from "../../checkpoint/run/checkpoints.js";
import { readGeometry } from "../../plan/geometry.js";
import { NO_LIMIT, limitMemory } from "../../torch/memory.js";
import { engineInfo } from "../../torch/device.js";
import { parameterCount, placedParameters, weightBytes } from "../../model/model.js";
import { dtype } from "../../torch/tensor.js";

export async function run({ settings, given, out }: CommandInput<typeof TRAIN_ROWS>): Promise<number> {
  const place = rankPlace(process.env);
  const ranks = joinRanks(place, settings.rank_timeout);
  // What the first says, all would.
  const code = await trainAs(
    ranks,
    withRestart(settings, place, ranks),
    given,
    ranks.rank === 0 ? out : { write() {} },
  );
  ranks.close();
  return code;
}

async function trainAs(
  ranks: Collectives,
  asked: TrainSettings,
  given: ReadonlySet<string>,
  out: Output,
): Promise<number> {
  onFirst(ranks, () => checkRunFolder(asked)); // before anything is loaded, which can take minutes
  const settings = await inTurn(ranks, () => withFiles(asked, out));
  const say = (text: string): void => void out.write(`${text}\n`);
  if (asked.fit) {
    if (ranks.world > 1)
      throw new UserError(
        "fit: looks at one process, and several train here. Leave fit out; revmoe plan --fit shows ways to choose from.",
      );
    Object.assign(settings, asked.resume === "" ? fitted(settings, given, say) : fittedBefore(settings, given));
  }
  say(describeSettings(settings));
  const run = await explaining(settings, null, () => prepareRun(settings, out, ranks));
  const stop = requestedStop(settings.resume === "" ? null : settings.resume);
  let sink: Sink | null = null;
  // Before the first step there is nothing to keep.
  let finished = run.startStep === 0;
  try {
    sink = ranks.rank === 0 ? beginRecords(run, out) : { write() {}, close() {} };
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
}

/** From here on model and data are files, also in what the run records: resuming needs no network. */
async function withFiles(asked: TrainSettings, out: Output): Promise<TrainSettings> {
  const hub = { out, preferCached: asked.resume !== "" };
  const { folder } = await namedModel(asked.model, "train", hub);
  return {
    ...asked,
    model: folder,
    train_file: await resolveSources(asked.train_file, "train_file", hub),
    validation_file: await resolveSources(asked.validation_file, "validation_file", hub),
  };
}

/** A launcher that starts a run again has the words it had at first: the run goes on from its newest checkpoint. */
function withRestart(asked: TrainSettings, place: RankPlace | null, ranks: Collectives): TrainSettings {
  if (place === null || place.restarts === 0 || asked.resume !== "") return asked;
  const isThere = onFirst(ranks, () => latestCheckpoint(asked.output_dir) !== null);
  return isThere ? { ...asked, resume: "latest" } : asked;
}

/** What the fastest way that fits this machine changes, which is said. Errors: UserError where none fits. */
function fitted(
  settings: TrainSettings,
  given: ReadonlySet<string>,
  say: (line: string) => void,
): Partial<TrainSettings> {
  const machine = machineOf({
    gpu: "",
    memory: settings.memory_limit,
    disk: "",
    device: settings.device,
    folder: settings.output_dir,
  });
  const asked = new Set([...given, "device"]);
  const [way] = findWays(resolverOf({ ...settings }, asked), readGeometry(settings), machine, asked);
  if (way === undefined)
    throw new UserError(
      `fit: no way to take a step of rows of ${settings.max_length} tokens fits ${describeMachine(machine)}. ` +
        "Use shorter rows or a smaller model; revmoe plan says what fits where.",
    );
  const change = changesBetween(settings, way.plan.settings);
  const words = Object.entries(change).map(([name, value]) => `${name} ${value}`);
  say(
    `fit: ${words.join(", ") || "as asked"}; ${formatBytes(way.plan.placed.deviceBytes)} planned on ${settings.device}`,
  );
  return { ...change, fit: false };
}

/** What `fitted` chose when the run began: going on, it stays so, whatever is free now. Errors: UserError where there is no record of it. */
function fittedBefore({ output_dir }: TrainSettings, given: ReadonlySet<string>): Partial<TrainSettings> {
  const path = join(output_dir, "config.json");
  if (statOf(path) === undefined)
    throw new UserError(
      `fit: ${path}, which says what was chosen, is missing. Give the settings of the run instead of fit.`,
    );
  const recorded = JSON.parse(readWholeFile(path).toString()) as TrainSettings;
  return {
    ...Object.fromEntries(CHANGED.filter((name) => !given.has(name)).map((name) => [name, recorded[name]])),
    fit: false,
  };
}

/** Runs `work`; running out of memory becomes a sentence that says what would fit. */
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
function beginRecords({ settings, startStep, totalSteps, resumedFrom }: Run, out: Output): Sink {
  const path = join(settings.output_dir, "config.json");
  // As the settings of another run, the file must not remove one.
  writeFileDurably(`${path}.new`, `${JSON.stringify({ ...settings, overwrite_output_dir: false }, null, 2)}\n`);
  renameSync(`${path}.new`, path);
  return openSinks(settings.report_to, {
    dir: settings.output_dir,
    startStep,
    lineDue: startStep > 0 && startStep % settings.logging_steps === 0,
    evaluatesAgain: resumedFrom?.inPlace === true,
    totalSteps,
    out,
  });
}

async function describeRun(run: Run): Promise<string[]> {
  const { states, totalSteps, startStep, settings, ranks } = run;
  const { network } = run.state;
  const { version, threads } = engineInfo();
  const parameters = parameterCount(placedParameters(network.model.architecture));
  const isShared = STORES[settings.parameters].lies === "ranks";
  const held = isShared ? "a share of the parameters" : "all parameters";
  const { coupling, format } = network;
  const bits = settings.method === "reversible" && format.exact ? coupling.storedBits : 0;
  return [
    `engine: libtorch ${version} on ${network.device}, ${threads} thread(s), computing in ${network.computeDtype}`,
    ...(ranks.world > 1 ? [`ranks: ${ranks.world}, each with ${held} and ${perRank(settings)}`] : []),
    `model: ${network.model.architecture.modelType}, ${formatCount(parameters)} parameters in ${dtype(Object.values(network.model.outer)[0])} ` +
      (isShared
        ? `(${formatBytes(weightBytes(network.model))} on rank 0), optimizer state ${formatBytes(states.bytes)} there`
        : `(${formatBytes(weightBytes(network.model))}), optimizer state ${formatBytes(states.bytes)}`),
    `network: ${coupling.name}, ${settings.method}, streams ${format.name}${bits > 0 ? `, ${bits} stored bits per element and block` : ""}`,
    ...(STORES[settings.parameters].lies === "files"
      ? [
          `parameters: on disk in ${join(settings.output_dir, "working")}; after a crash, --resume latest goes on from the last ${settings.durability}`,
        ]
      : []),
    ...run.notes.map((note) => `note: ${note}`),
    ...run.found.map((line) => `rows: ${line}`),
    describeData(run.report),
    `steps: ${totalSteps}${startStep > 0 ? `, resuming after step ${startStep}` : ""}; ${describeEpoch(run)}; ` +
      `${run.evalBatches.length} held-out batches`,
  ];
}

const perRank = ({ gradient_accumulation_steps: most }: TrainSettings): string =>
  `${most} ${most === 1 ? "micro-batch" : "micro-batches"} of a step`;

function describeEpoch({ settings, data: { batchesPerEpoch: batches }, ranks }: Run): string {
  const most = batchesPerStep(settings, ranks);
  const steps = stepsPerEpoch(settings, batches, ranks);
  const rest = batches - most * (steps - 1);
  const last = rest === most ? "" : steps === 1 ? `, ${rest} to its one step` : `, ${rest} to the last step of one`;
  return `${batches} micro-batches an epoch${steps === 1 && rest < most ? "" : `, ${most} to a step`}${last}`;
}

function describeData(report: DataReport): string {
  const { formats, rows, tokens, trainedTokens, truncated, split, dropped, unusedColumns } = report;
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
  const unused = Object.entries(unusedColumns).map(([name, count]) => `${quoted(name)} (${count})`);
  return (
    `data: ${formatNumberOf(rows, "row")} of format ${formats.join(" and ")}, ${formatCount(tokens)} tokens, ${share} % trained${extra}` +
    `${unused.length > 0 ? `; columns that are not used: ${unused.join(", ")}` : ""}`
  );
}
