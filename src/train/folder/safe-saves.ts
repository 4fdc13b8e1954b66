// Saves that the disk refuses, without losing the run. Between steps the run reports it and goes on, since the next
// save may find room. The result is saved under another name if its own is taken, and waits while the disk is full.
// Errors that are not the disk's are thrown on.
import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";

import { latestCheckpoint } from "../../checkpoint/run/checkpoints.js";
import { freeBytes, isFull, refusalOf } from "../../checkpoint/files/disk.js";
import { UserError } from "../../errors.js";
import { formatBytes, formatDuration } from "../../format.js";
import type { Sink } from "../../metrics/record.js";
import { savedBytes } from "../../model/model.js";
import type { Run } from "../prepare.js";
import { finalProblem } from "./run-room.js";
import { saveCheckpoint, saveFinal } from "./snapshot.js";
import type { StopSignal } from "../stop/stop.js";

/** Saves a checkpoint, and goes on if the disk refuses it; returns the folder, or null. */
export function saveBetween(run: Run, sink: Sink, step: number): string | null {
  try {
    return saveCheckpoint(run, step, warningTo(sink, step));
  } catch (failure) {
    if (!refusalOf(failure)) throw failure;
    const goesOn =
      step < run.totalSteps ? `Training goes on; ${newest(run)}; ${nextTry(run, step)}` : sentence(newest(run));
    const message = `${(failure as Error).message} ${goesOn}`;
    sink.write({ kind: "message", step, message, level: "warning" });
    return null;
  }
}

function nextTry({ settings, totalSteps }: Run, step: number): string {
  const { save_strategy: strategy, save_steps: every } = settings;
  if (strategy !== "steps" || every === 0) return "the next try is at the next checkpoint.";
  const next = every * (Math.floor(step / every) + 1);
  return `the next try is at ${next < totalSteps ? `step ${next}` : "the end"}.`;
}

/** Saves a checkpoint of a run that was asked to stop. Errors: UserError that says from where it can go on. */
export function saveStopped(run: Run, sink: Sink, step: number): string {
  try {
    return saveCheckpoint(run, step, warningTo(sink, step));
  } catch (failure) {
    if (!refusalOf(failure)) throw failure;
    throw new UserError(
      `stopped after step ${step} without a checkpoint: ${(failure as Error).message} ${sentence(newest(run))}`,
    );
  }
}

/**
 * Saves the result and returns its folder. Errors: UserError if it had to be saved under another name, or if the disk
 * stayed full; `stop` ends the waiting.
 */
export async function saveResult(run: Run, sink: Sink, stop: StopSignal = { aborted: false }): Promise<string> {
  const { output_dir: dir, disk_full_wait: minutes } = run.settings;
  const until = Date.now() + minutes * 60_000;
  for (let waited = false; ; waited = true) {
    try {
      return saveFinal(run, warningTo(sink, run.totalSteps));
    } catch (failure) {
      const refusal = refusalOf(failure);
      if (!refusal && !finalProblem(dir)) throw failure;
      if (!refusal || !isFull(refusal)) throw saveAside(run, sink, failure as Error);
      const left = until - Date.now();
      if (left <= 0 || stop.aborted) throw new UserError(`${(failure as Error).message} ${sentence(newest(run))}`);
      if (!waited) {
        const message = `${(failure as Error).message} Waiting ${formatDuration(left)} for ${formatBytes(savedBytes(run.state.network.model))} of room; Ctrl-C gives up.`;
        sink.write({ kind: "message", step: run.totalSteps, message, level: "warning" });
      }
      await roomOrEnd(run, until, stop);
    }
  }
}

/** Saves the result as final-N; returns the error to end with. */
function saveAside(run: Run, sink: Sink, failure: Error): Error {
  const name = `final-${run.totalSteps}`;
  try {
    return new UserError(
      `${failure.message} The result is saved as ${saveFinal(run, warningTo(sink, run.totalSteps), name)} instead.`,
    );
  } catch (second) {
    if (!(second instanceof UserError)) return failure;
    return new UserError(
      `${failure.message} Nor could it be saved as ${join(run.settings.output_dir, name)}: ${second.message} ${sentence(newest(run))}`,
    );
  }
}

const warningTo =
  (sink: Sink, step: number) =>
  (message: string): void =>
    sink.write({ kind: "message", step, message, level: "warning" });

const FIRST_POLL_MS = 250;
const LAST_POLL_MS = 1000;

async function roomOrEnd({ settings, state }: Run, until: number, stop: StopSignal): Promise<void> {
  const needed = savedBytes(state.network.model);
  let pollMs = FIRST_POLL_MS;
  do {
    await sleep(Math.max(1, Math.min(pollMs, until - Date.now())));
    pollMs = Math.min(2 * pollMs, LAST_POLL_MS);
  } while (freeBytes(settings.output_dir) < needed && Date.now() < until && !stop.aborted);
}

function newest({ settings }: Run): string {
  const checkpoint = latestCheckpoint(settings.output_dir);
  return checkpoint === null
    ? "no checkpoint was saved yet"
    : `the newest checkpoint is ${checkpoint}, from which resume: latest goes on`;
}

const sentence = (clause: string): string => `${clause[0].toUpperCase()}${clause.slice(1)}.`;
