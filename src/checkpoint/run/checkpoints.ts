// The checkpoint-N folders of a run: lists them, finds the newest, and removes old ones. A folder counts if it has
// everything that a run needs to go on. Only our files are removed; a person's files in a checkpoint stay.
import { existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

import { INDEX_FILE, OPTIMIZER_FILE, SINGLE_FILE, STATE_FILE } from "../folder.js";
import { foreignEntries, MARKS } from "../files/kept-files.js";

export { OPTIMIZER_FILE, STATE_FILE } from "../folder.js";

export const checkpointFolder = (outputDir: string, step: number): string => join(outputDir, `checkpoint-${step}`);

/** Steps of the complete checkpoints in a run's folder, ascending; none when there is no such folder. */
export function listCheckpoints(outputDir: string): number[] {
  if (!existsSync(outputDir)) return [];
  return readdirSync(outputDir)
    .map((name) => /^checkpoint-(0|[1-9]\d*)$/.exec(name))
    .filter((match) => match !== null)
    .map((match) => Number(match[1]))
    .filter((step) => isComplete(checkpointFolder(outputDir, step)))
    .sort((a, b) => a - b);
}

/** The folder of the newest complete checkpoint, or null. */
export function latestCheckpoint(outputDir: string): string | null {
  const step = listCheckpoints(outputDir).at(-1);
  return step === undefined ? null : checkpointFolder(outputDir, step);
}

/**
 * Removes all complete checkpoints but the newest `keep`, and what a killed removal or save left; 0 keeps all. Returns
 * the removed steps. `current` is the run's step: later checkpoints are from before the run went back, so they count as
 * the oldest. The checkpoint of step `needed` stays and counts as one of the newest; there is always another one beside
 * it.
 */
export function pruneCheckpoints(
  outputDir: string,
  keep: number,
  current = Number.POSITIVE_INFINITY,
  needed?: number,
): number[] {
  for (const name of existsSync(outputDir) ? readdirSync(outputDir) : []) {
    if (/^checkpoint-\d+\.partial$/.test(name)) rmSync(join(outputDir, name), { recursive: true, force: true });
  }
  const all = listCheckpoints(outputDir);
  const steps = [...all.filter((step) => step > current), ...all.filter((step) => step <= current)];
  const others = steps.filter((step) => step !== needed);
  const kept = others.length < steps.length ? Math.max(1, keep - 1) : keep;
  const removed = keep > 0 ? others.slice(0, Math.max(0, others.length - kept)) : [];
  for (const step of removed) removeCheckpoint(checkpointFolder(outputDir, step));
  return removed;
}

// The folder is renamed first, so a removal cut short never leaves something like a checkpoint. If a person's files are
// in it, the folder stays with these and with the files that mark it as ours, so that a checkpoint of this step can
// replace it.
function removeCheckpoint(folder: string): void {
  const foreign = foreignEntries(folder);
  if (foreign.length === 0) {
    renameSync(folder, `${folder}.partial`);
    rmSync(`${folder}.partial`, { recursive: true });
    return;
  }
  rmSync(join(folder, STATE_FILE));
  const ours = readdirSync(folder).filter((name) => !foreign.includes(name) && !MARKS.includes(name));
  for (const name of ours) rmSync(join(folder, name), { force: true });
}

function isComplete(folder: string): boolean {
  const has = (name: string): boolean => existsSync(join(folder, name));
  return has("config.json") && has(STATE_FILE) && has(OPTIMIZER_FILE) && (has(SINGLE_FILE) || has(INDEX_FILE));
}
