// What a kind of sink is: a place where a run's events go. Its file exports everything about it, and a line in
// registry.ts makes it known; the setting report_to, its help and docs, and the names of its files in a run's folder
// follow from there.
import type { Output } from "../output.js";
import type { Sink } from "../record.js";

/** A run, as its sinks see it. */
export interface ReportedRun {
  /** The run's folder, which exists. */
  dir: string;
  /** Number of steps done before: events of later steps, left by the run that is resumed, are void. */
  startStep: number;
  /** Whether `startStep` should have a line, and whether its evaluation is made again. */
  lineDue: boolean;
  evaluatesAgain: boolean;
  totalSteps: number;
  /** The run's name in reports. */
  name: string;
  /** Settings and facts of the run, for readers of its numbers. */
  params: Readonly<Record<string, unknown>>;
  out: Output;
  /** Shows the person a message at once. */
  say(message: string, level: "info" | "warning"): void;
}

export interface SinkKind {
  /** A value of report_to. */
  name: string;
  /** What it writes, in a few words for the help. */
  about: string;
  /** Whether every run has it; then it is not a value of report_to. */
  always?: boolean;
  /** Whether run_name names what it makes. */
  hasRunName?: boolean;
  /** Checks, before anything is loaded, whether it could begin. Errors: UserError. */
  check?(): void;
  /** Whether a file with this name in a run's folder is its own; such a file is removed when the run is overwritten. */
  owns?(name: string): boolean;
  /**
   * Begins, or continues a resumed run. The caller closes the sink. Errors: a UserError, which ends the run before its
   * first step. What `write` throws does not end the run: it is reported, and the event is missing.
   */
  open(run: ReportedRun): Sink;
}
