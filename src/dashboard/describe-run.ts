// A run as its folder tells it, except its metrics: settings, plan, and whether a process is at work there. Reads files
// only. What is missing or cannot be read becomes a note, because a run that has just begun or was cut off lacks some
// of it.
import { join } from "node:path";

import { isLocked } from "../checkpoint/run/lock.js";
import { PLAN_FILE } from "../checkpoint/run/marker.js";
import { METRICS_FILE } from "../metrics/sinks/jsonl.js";
import type { MemoryTerms } from "../metrics/record.js";
import { reading, readRunFile, statOf } from "../read-file.js";
import type { FoundRun } from "./find-runs.js";

export interface RunDescription extends FoundRun {
  /** Whether a process that may be alive trains there. */
  active: boolean;
  /** Whether its result was saved. */
  finished: boolean;
  /** When its metrics last grew, in milliseconds since 1970; null before the first line. */
  updatedAt: number | null;
  totalSteps: number | null;
  /** Planned memory of a step. */
  planned: MemoryTerms | null;
  settings: Record<string, unknown> | null;
  notes: string[];
}

export function describeRun(run: FoundRun): RunDescription {
  const notes: string[] = [];
  const settings = readRecord(run.dir, "config.json", notes);
  const plan = readRecord(run.dir, PLAN_FILE, notes) as { totalSteps?: number; memory?: MemoryTerms } | null;
  return {
    ...run,
    active: attempt(() => isLocked(run.dir), notes) ?? false,
    finished: attempt(() => statOf(join(run.dir, "final"))?.isDirectory(), notes) ?? false,
    updatedAt: attempt(() => statOf(join(run.dir, METRICS_FILE))?.mtimeMs, notes) ?? null,
    totalSteps: plan?.totalSteps ?? null,
    planned: plan?.memory ?? null,
    settings,
    notes,
  };
}

function readRecord(dir: string, name: string, notes: string[]): Record<string, unknown> | null {
  return attempt(() => {
    const path = join(dir, name);
    if (statOf(path) === undefined) return null;
    const text = reading(path, () => readRunFile(path));
    try {
      const value: unknown = JSON.parse(text);
      if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
    } catch {
      // The note below says it, also for JSON that is not an object.
    }
    notes.push(`${name}: cannot be understood (expected a JSON object).`);
    return null;
  }, notes);
}

/** What `read` returns; a failure becomes a note. */
function attempt<T>(read: () => T, notes: string[]): T | null {
  try {
    return read();
  } catch (failure) {
    notes.push(failure instanceof Error ? failure.message : String(failure));
    return null;
  }
}
