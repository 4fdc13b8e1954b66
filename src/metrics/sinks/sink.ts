// What a kind of sink is: a place that a run's events go to. Its file exports everything about it, and a line in registry.ts
// makes it known: the setting report_to, its help and docs, and what the folder of a run may hold follow from there.
import type { Output } from "../output.js";
import type { Sink } from "../record.js";

/** A run, as far as its sinks are concerned. */
export interface ReportedRun {
  /** The run's folder; it exists. */
  dir: string;
  /** Steps that were done before: events of later steps, left by a run that is resumed, are void. */
  startStep: number;
  /** Whether a line of `startStep` was due, and whether that step's evaluation is made again. */
  lineDue: boolean;
  evaluatesAgain: boolean;
  totalSteps: number;
  /** What it is called where it is reported. */
  name: string;
  /** What a reader of its numbers wants to know of it: its settings and facts. */
  params: Readonly<Record<string, unknown>>;
  out: Output;
  /** Tells the person at once. */
  say(message: string, level: "info" | "warning"): void;
}

export interface SinkKind {
  /** A value of report_to. */
  name: string;
  /** What it writes, in a few words for the help. */
  about: string;
  /** Whether every run has it; report_to does not name it then. */
  always?: boolean;
  /** Whether what it makes is called by run_name. */
  hasRunName?: boolean;
  /** Looks, before anything is loaded, whether it could begin. Errors: UserError. */
  check?(): void;
  /** Whether a file of this name in a run's folder is its own: it goes when the run is overwritten. */
  owns?(name: string): boolean;
  /**
   * Begins or goes on. The caller closes the sink. May throw a UserError, which ends the run before its first step. What
   * `write` throws ends no run: it is said, and the event is missing.
   */
  open(run: ReportedRun): Sink;
}
