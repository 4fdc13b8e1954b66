// Every kind of sink. A new one is a file and a line here. Opens a run's sinks as one sink; if one of them fails, the
// others go on.
import type { Sink } from "../record.js";
import { consoleKind } from "./console.js";
import { jsonlKind } from "./jsonl.js";
import { mlflow } from "./mlflow.js";
import type { ReportedRun, SinkKind } from "./sink.js";
import { tensorboard } from "./tensorboard.js";
import { trackio } from "./trackio.js";
import { wandb } from "./wandb.js";

/** The first sink shows the warnings of the others. */
const SINKS: readonly SinkKind[] = [consoleKind, jsonlKind, tensorboard, mlflow, trackio, wandb];

const onRequest = SINKS.filter(({ always }) => !always);

/** The values of report_to. */
export const REPORT_TO: readonly string[] = ["none", ...onRequest.map(({ name }) => name)];

/** Each value with what it writes, for the help. */
export const REPORT_TO_ABOUT = onRequest.map(({ name, about }) => `${name}: ${about}`).join("; ");

/** Whether a file of this name in a run's folder was written by a sink. */
export const isReport = (name: string): boolean => SINKS.some(({ owns }) => owns?.(name));

/** The values of report_to that use run_name. */
export const REPORTS_WITH_NAME: readonly string[] = SINKS.filter(({ hasRunName }) => hasRunName).map(
  ({ name }) => name,
);

const chosen = (reportTo: readonly string[]): SinkKind[] =>
  SINKS.filter(({ always, name }) => always || reportTo.includes(name));

/** Checks whether the sinks in `reportTo` could begin. Errors: UserError. */
export const checkSinks = (reportTo: readonly string[]): void => chosen(reportTo).forEach(({ check }) => check?.());

/**
 * Opens the sinks that every run has and those in `reportTo`. `own` is a program's sink; it gets all events, and the
 * same warnings as the first. Errors: UserError of a sink that cannot begin.
 */
export function openSinks(reportTo: readonly string[], run: Omit<ReportedRun, "say">, own?: Sink): Sink {
  const sinks: Sink[] = [];
  const say: ReportedRun["say"] = (message, level) => {
    for (const sink of [sinks[0], own]) sink?.write({ kind: "message", step: run.startStep, message, level });
  };
  const all: Sink = {
    write: (event) => sinks.forEach((sink) => sink.write(event)),
    close: (end) => sinks.forEach((sink) => sink.close(end)),
  };
  try {
    for (const { name, open } of chosen(reportTo))
      sinks.push(sayingFailures(open({ ...run, say }), name, (message) => say(message, "warning")));
    if (own) sinks.push(own);
  } catch (failure) {
    all.close();
    throw failure;
  }
  return all;
}

/** Wraps a sink: if it throws, that is said once, and once more when it works again. */
export function sayingFailures(sink: Sink, name: string, warn: (message: string) => void): Sink {
  let missing = 0;
  return {
    write: (event) => {
      try {
        sink.write(event);
        if (missing > 0)
          warn(`${name} is written again; ${missing} ${missing === 1 ? "event is" : "events are"} missing`);
        missing = 0;
      } catch (failure) {
        if (missing++ === 0)
          warn(`${name}: ${messageOf(failure)} Training goes on; events are missing until it is written.`);
      }
    },
    close: (end) => {
      try {
        sink.close(end);
      } catch (failure) {
        warn(`${name}: ${messageOf(failure)} Its last events may be missing.`);
      }
    },
  };
}

const messageOf = (failure: unknown): string =>
  `${failure instanceof Error ? failure.message : failure}`.replace(/\.?$/, ".");
