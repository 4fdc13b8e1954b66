// Checks everything about a model's folder, or a checkpoint-N, that can be checked without using it: configuration,
// weights against the family, checksums, tokenizer, and the optimizer's state against the model. Changes nothing.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { statedDtype } from "../checkpoint/config-text.js";
import { checkFiles } from "../checkpoint/files/check-files.js";
import { OPTIMIZER_FILE, type ReadConfig, readConfig, readJsonObject, STATE_FILE } from "../checkpoint/folder.js";
import { foreignEntries } from "../checkpoint/files/kept-files.js";
import { fullName } from "../checkpoint/layout.js";
import { commonDtype, dtypeOnDisk, matchTensors } from "../checkpoint/load.js";
import { MANIFEST_FILE } from "../checkpoint/files/manifest.js";
import { readSavedRun } from "../checkpoint/run/state.js";
import { openSafetensors } from "../checkpoint/safetensors/file.js";
import { COPIED_FILES, type Folder, type ModelSource } from "../checkpoint/model-files.js";
import { loadTokenizer } from "../data/tokenizer/tokenizer.js";
import { UserError } from "../errors.js";
import { formatBytes } from "../format.js";
import { readArchitecture } from "../families/registry.js";
import type { Architecture } from "../model/architecture.js";
import { makeOptimizer } from "../optim/registry.js";
import { extensionOf, readNetworkFile } from "../network/description.js";
import { plannedStates } from "../step/optimizer-states.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { readDenseModel } from "../upcycle/dense.js";
import { attempt, type Report } from "./findings.js";
import { checkValues, openWeights, some } from "./verify-weights.js";

/** Checks the model in a folder, and the run's state if it is a checkpoint. */
export function verifyModel(dir: string, report: Report): void {
  checkChecksums(dir, report);
  const path = join(dir, "config.json");
  const config = attempt(report, path, () => readConfig(dir));
  const family = config && attempt(report, path, () => readFamily(dir, config, report));
  const weights = attempt(report, dir, () => openWeights(dir, report));
  const folder = weights && attempt(report, dir, () => asUsed(weights.folder, config, report));
  try {
    if (folder) {
      if (family) attempt(report, dir, () => checkFit(folder, family, report));
      checkValues(dir, folder, report);
    }
    checkTokenizer(dir, family, report);
    checkSideFiles(dir, report);
    if (existsSync(join(dir, STATE_FILE)) || existsSync(join(dir, OPTIMIZER_FILE)))
      checkRun(dir, family, folder, report);
  } finally {
    weights?.folder.close();
  }
}

/** Checks a .gguf file; opening it already reads and checks its header. */
export function verifyGguf(source: ModelSource, report: Report): void {
  const { path } = source;
  report("ok", path, "header, metadata and places agree with its length");
  const folder = attempt(report, path, () => source.openWeights());
  try {
    const family = attempt(report, path, () => familyOf(source.config, path, undefined, report));
    if (family && folder) attempt(report, path, () => checkFit(folder, family, report));
    if (folder) checkValues(path, folder, report);
    const tokenizer = attempt(report, path, () => loadTokenizer(source));
    if (tokenizer) report("ok", path, `tokenizer: ${tokenizer.vocabSize} tokens`);
  } finally {
    folder?.close();
  }
}

function checkChecksums(dir: string, report: Report): void {
  const path = join(dir, MANIFEST_FILE);
  const checked = attempt(report, dir, () => checkFiles(dir));
  if (checked === undefined) return;
  const { by, files, bytes, problems } = checked;
  for (const { file, problem } of problems) report("problem", join(dir, file), problem);
  if (by === null) report("note", dir, "no checksums: there is no manifest, and it is no folder of a hub's cache");
  else if (problems.length < files)
    report(
      "ok",
      by === "manifest" ? path : dir,
      `${files - problems.length} of ${files} files, ${formatBytes(bytes)}, have the checksums that the ${by} states`,
    );
  const foreign = by === "manifest" ? foreignEntries(dir) : [];
  if (foreign.length > 0) report("note", path, `does not know ${some(foreign)}, which revmoe did not write`);
}

/** Weights as a loader sees them: decoded, if they are quantised. */
function asUsed(stored: Folder, config: ReadConfig | undefined, report: Report): Folder {
  if (!config?.quantisation) return stored;
  const decoded = config.quantisation.decoded(stored, statedDtype(config.config));
  report("ok", stored.dir, `weights are ${config.quantisation.words}: every packed tensor has its scales`);
  return decoded;
}

function readFamily(dir: string, { config, path }: ReadConfig, report: Report): Architecture | undefined {
  const network = attempt(report, join(dir, "revmoe.json"), () => readNetworkFile(dir));
  return familyOf(config, path, network && extensionOf(network), report);
}

/** The family of a config.json, either one that is trained or a dense one. Nothing is known of others. */
function familyOf(
  stated: Record<string, unknown>,
  path: string,
  extend: ((as: Architecture) => Architecture) | undefined,
  report: Report,
): Architecture | undefined {
  let family: Architecture;
  try {
    family = (extend ?? ((as) => as))(readArchitecture(stated, path));
  } catch (failure) {
    if (!(failure instanceof UserError) || !failure.message.includes("model_type")) throw failure;
    try {
      family = readDenseModel({ config: stated, configPath: path }).architecture;
    } catch {
      report(
        "note",
        path,
        `model_type ${JSON.stringify(stated.model_type) ?? "is missing, and"} is not of a family that is known: tensors are not compared with it`,
      );
      return undefined;
    }
  }
  report("ok", path, `${family.modelType}, ${family.layers.length} layers of ${family.hiddenSize}`);
  return family;
}

function checkFit(folder: Folder, architecture: Architecture, report: Report): void {
  const matched = matchTensors(folder, architecture);
  report("ok", folder.dir, `all ${matched.size} parameters of ${architecture.modelType} are there, with their shapes`);
}

function checkTokenizer(dir: string, family: Architecture | undefined, report: Report): void {
  const path = join(dir, "tokenizer.json");
  if (!existsSync(path)) {
    report("note", dir, "has no tokenizer.json");
    return;
  }
  const tokenizer = attempt(report, path, () => loadTokenizer(dir));
  if (tokenizer === undefined) return;
  const rows = family?.vocabSize;
  if (rows !== undefined && tokenizer.vocabSize > rows) {
    report(
      "note",
      path,
      `has ids up to ${tokenizer.vocabSize - 1}, the model ${rows} rows: texts with the last ids cannot be used`,
    );
  } else
    report(
      "ok",
      path,
      `${tokenizer.vocabSize} tokens${tokenizer.chatTemplate === undefined ? "" : ", with a chat template"}`,
    );
}

function checkSideFiles(dir: string, report: Report): void {
  const seen = ["tokenizer.json", "config.json"];
  const others = COPIED_FILES.filter(
    (name) => name.endsWith(".json") && !seen.includes(name) && existsSync(join(dir, name)),
  );
  for (const name of others) attempt(report, join(dir, name), () => readJsonObject(join(dir, name)));
}

function checkRun(dir: string, family: Architecture | undefined, weights: Folder | undefined, report: Report): void {
  const state = attempt(report, join(dir, STATE_FILE), () => readSavedRun(dir));
  if (state) report("ok", join(dir, STATE_FILE), `after step ${state.step}`);
  const path = join(dir, OPTIMIZER_FILE);
  const file = attempt(report, path, () => openSafetensors(path));
  if (file === undefined) return;
  try {
    if (state && family && weights)
      attempt(report, path, () =>
        checkState(file, state.settings as unknown as TrainSettings, family, weights, report),
      );
    checkValues(path, { dir, tensors: file.entries, read: file.read, close: () => {} }, report);
  } finally {
    file.close();
  }
}

/**
 * Checks that the optimizer keeps every tensor of the state for this model, and that no parameter has only a part of
 * its state.
 */
function checkState(
  file: ReturnType<typeof openSafetensors>,
  settings: TrainSettings,
  family: Architecture,
  weights: Folder,
  report: Report,
): void {
  const matched = matchTensors(weights, family);
  const planned = plannedStates(
    makeOptimizer(settings, "float32"),
    family,
    (placed) => {
      const pieces = matched.get(fullName(placed));
      return pieces ? dtypeOnDisk(weights, pieces) : commonDtype(weights);
    },
    { weightsCorrection: settings.weights_correction === "8bit" },
  );
  const wrong = [...file.entries.values()].flatMap(({ name, dtype, shape }) => {
    const plan = planned.get(name);
    if (plan === undefined) return [`${name} is of no parameter`];
    return plan.dtype === dtype && plan.shape.join() === shape.join()
      ? []
      : [`${name} is ${dtype} [${shape.join(", ")}], not ${plan.dtype} [${plan.shape.join(", ")}]`];
  });
  const parameterOf = (name: string): string => name.slice(name.indexOf(".") + 1);
  const begun = new Set([...file.entries.keys()].map(parameterOf));
  const missing = [...planned.keys()].filter((name) => begun.has(parameterOf(name)) && !file.entries.has(name));
  if (wrong.length > 0)
    report("problem", file.path, `does not fit the model and ${settings.optimizer}: ${some(wrong)}`);
  if (missing.length > 0) report("problem", file.path, `lacks ${some(missing)}`);
  if (wrong.length + missing.length > 0) return;
  const parameters = new Set([...planned.keys()].map(parameterOf)).size;
  report("ok", file.path, `state of ${settings.optimizer} for ${begun.size} of ${parameters} parameters that have one`);
}

export const isModelFolder = (dir: string): boolean =>
  readdirSync(dir).some((name) => name.endsWith(".safetensors") || name === "model.safetensors.index.json") ||
  existsSync(join(dir, MANIFEST_FILE));
