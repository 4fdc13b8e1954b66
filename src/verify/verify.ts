// Finds out what a path is, and runs the checks for it: a model's folder or checkpoint, a run with all that it saved,
// the cache of a hub, a .gguf or .safetensors file. Changes nothing, and continues past every problem.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

import { listCheckpoints } from "../checkpoint/run/checkpoints.js";
import { openGguf } from "../checkpoint/gguf/open.js";
import { openSafetensors } from "../checkpoint/safetensors/file.js";
import { UserError } from "../errors.js";
import { attempt, type Report } from "./findings.js";
import { isModelFolder, verifyGguf, verifyModel } from "./verify-model.js";
import { checkValues } from "./verify-weights.js";

/** Reports on everything at `path`. Errors: UserError if there is nothing to check. */
export function verify(path: string, report: Report): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) {
    throw new UserError(
      `${path}: no such file or folder (expected a model, a checkpoint, a run, or a model in the cache as org/name). Check the path.`,
    );
  }
  if (!stat.isDirectory()) {
    verifyFile(path, report);
    return;
  }
  const parts = partsOf(path);
  if (isModelFolder(path)) verifyModel(path, report);
  if (
    existsSync(join(path, "metrics.jsonl")) ||
    parts.some((name) => name === "final" || name.startsWith("checkpoint-"))
  ) {
    checkRecords(path, parts, report);
  } else if (parts.length === 0 && !isModelFolder(path)) {
    throw new UserError(`${path}: holds no weights, no checkpoint and no run. Give the folder of a model or of a run.`);
  }
  for (const name of parts) verifyModel(join(path, name), report);
}

function verifyFile(path: string, report: Report): void {
  if (/\.gguf$/i.test(path)) {
    const source = attempt(report, path, () => openGguf(path));
    if (source) verifyGguf(source, report);
  } else if (path.endsWith(".safetensors")) {
    const file = attempt(report, path, () => openSafetensors(path));
    if (file === undefined) return;
    report("ok", path, `${file.entries.size} tensors; header and places agree with its length`);
    checkValues(path, { dir: path, tensors: file.entries, read: file.read, close: () => {} }, report);
    file.close();
  } else
    throw new UserError(
      `${path}: is no file of weights (expected .safetensors or .gguf, or a folder). Give the folder of a model.`,
    );
}

/** The folders below `path` that have models: of a run, or of a model in a hub's cache. */
function partsOf(path: string): string[] {
  const folders = (under: string): string[] =>
    existsSync(join(path, under))
      ? readdirSync(join(path, under), { withFileTypes: true })
          .filter((entry) => entry.isDirectory())
          .map(({ name }) => join(under, name))
      : [];
  const step = (name: string): number => Number(/^checkpoint-(\d+)$/.exec(name)?.[1] ?? Number.POSITIVE_INFINITY);
  const here = folders("").filter(
    (name) => name === "final" || /^checkpoint-\d+$/.test(name) || /^[0-9a-f]{40}$/.test(name),
  );
  return [
    ...here.sort((a, b) => step(a) - step(b)),
    ...folders("snapshots").filter((name) => /[0-9a-f]{40}$/.test(name)),
  ];
}

/** Checks what a run has beside its models. */
function checkRecords(path: string, parts: string[], report: Report): void {
  const metrics = join(path, "metrics.jsonl");
  if (existsSync(metrics)) {
    const lines = readFileSync(metrics, "utf8").split("\n").filter(Boolean);
    const bad = lines.findIndex((line) => !isJson(line));
    if (bad >= 0) report("problem", `${metrics}:${bad + 1}`, "is not JSON");
    else report("ok", metrics, `${lines.length} lines`);
  }
  const complete = listCheckpoints(path).map((step) => `checkpoint-${step}`);
  for (const name of parts.filter((each) => each.startsWith("checkpoint-") && !complete.includes(each))) {
    report("problem", join(path, name), "is not complete, and no run goes on from it");
  }
  for (const name of readdirSync(path)) {
    if (name.endsWith(".partial"))
      report("note", join(path, name), "was left by a save that was cut off; it can be removed");
    if (name.endsWith(".revmoe-previous"))
      report("note", join(path, name), "was left by a save that was cut off; resume puts it right");
    if (name === "working")
      report("note", join(path, name), "is the working copy of a run that has not ended; it is not checked");
  }
}

function isJson(line: string): boolean {
  try {
    JSON.parse(line);
    return true;
  } catch {
    return false;
  }
}
