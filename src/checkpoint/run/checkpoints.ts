// The checkpoint-N folders of a run: which there are, which is the newest, and removing old ones. A folder counts when
// everything a run needs to go on is in it. Removing takes what is ours; what a person put into a checkpoint stays there.
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
 * the removed steps. `current` is the step the run is at: later checkpoints are of a run that went back before them,
 * so they count as the oldest. The one of step `needed` stays, and counts as one of the newest, beside which there is always another.
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

// Renamed first, so that a removal cut short never leaves something that looks like a checkpoint. With files of a person in
// it, the folder stays with these and what marks it as ours, so that a checkpoint of this step can take its place.
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
