// What a run says before its first step: engine, model, network, notes, rows and steps, one line each.
import { join } from "node:path";

import { quoted } from "../data/limits.js";
import type { DataReport } from "../data/make-documents.js";
import { formatBytes, formatCount, formatNumberOf } from "../format.js";
import { parameterCount, placedParameters, weightBytes } from "../model/model.js";
import { STORES } from "../store/registry.js";
import { engineInfo } from "../torch/device.js";
import { dtype } from "../torch/tensor.js";
import { batchesPerStep, stepsPerEpoch } from "../train/course/run-length.js";
import type { Run } from "../train/prepare.js";
import type { TrainSettings } from "../train/settings/settings.js";

/** Number of parameters of the whole model, wherever they lie. */
export const parametersOf = ({ state }: Run): number =>
  parameterCount(placedParameters(state.network.model.architecture));

export function describeRun(run: Run): string[] {
  const { states, totalSteps, startStep, settings, ranks } = run;
  const { network } = run.state;
  const { version, threads } = engineInfo();
  const { lies, shared: isShared } = STORES[settings.parameters];
  const held = isShared ? "a share of the parameters" : "all parameters";
  const there = isShared ? " on rank 0" : "";
  const { coupling, format } = network;
  const bits = settings.method === "reversible" && format.exact ? coupling.storedBits : 0;
  return [
    `engine: libtorch ${version} on ${network.device}, ${threads} thread(s), computing in ${network.computeDtype}`,
    ...(ranks.world > 1 ? [`ranks: ${ranks.world}, each with ${held}${perRank(settings)}`] : []),
    `model: ${network.model.architecture.modelType}, ${formatCount(parametersOf(run))} parameters in ${dtype(Object.values(network.model.outer)[0])} ` +
      `(${formatBytes(weightBytes(network.model))}${there}), optimizer state ${formatBytes(states.bytes)}${there}`,
    `network: ${coupling.name}, ${settings.method}, streams ${format.name}${bits > 0 ? `, ${bits} stored bits per element and block` : ""}`,
    ...(lies === "files"
      ? [
          `parameters: on disk in ${join(settings.output_dir, isShared ? "working-rank-N" : "working")}; after a crash, resume: latest goes on from the last ${isShared ? "checkpoint (save_steps)" : settings.durability}`,
        ]
      : []),
    ...run.notes.map((note) => `note: ${note}`),
    ...run.found.map((line) => `rows: ${line}`),
    describeData(run.report),
    `steps: ${totalSteps}${startStep > 0 ? `, resuming after step ${startStep}` : ""}; ${describeEpoch(run)}; ` +
      `${run.evalBatches.length} held-out batches`,
  ];
}

function perRank({ gradient_accumulation_steps: most, sequence_ranks: together }: TrainSettings): string {
  const batches = `${most} ${most === 1 ? "micro-batch" : "micro-batches"} of a step`;
  return together === 1 ? ` and ${batches}` : `; groups of ${together} hold ${batches} together`;
}

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
