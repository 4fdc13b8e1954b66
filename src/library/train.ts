// `train(settings)` for programs: a run that is watched by iterating over its steps, stopped by an AbortSignal or by leaving the loop, and
// awaited by its result. Prints nothing unless it is given an output. Its folder is what `revmoe train` would have written.
import { UserError } from "../errors.js";
import type { Output } from "../metrics/output.js";
import type { RunEvent, Sink, StepRecord } from "../metrics/record.js";
import { ALONE } from "../parallel/collectives.js";
import type { MemoryTerms } from "../step/memory-terms.js";
import type { GivenRows } from "../train/prepare-data.js";
import { TRAIN_TABLE } from "../train/settings/settings.js";
import { runTraining } from "./run-training.js";
import { checkObject, readSettings, type Settings } from "./settings.js";

/** Rows as objects of any of the kinds of docs/data.md, as `{ text }` or `{ messages }`. They are read once, before the first step. */
export type Rows = Iterable<object> | AsyncIterable<object>;

export interface TrainOptions {
  /** Stops the run at the end of the step, and saves a checkpoint from which `resume: "latest"` goes on. */
  signal?: AbortSignal;
  /** What is trained on, in place of `train_file`. */
  rows?: Rows;
  /** What is evaluated on, in place of `validation_file`. */
  validationRows?: Rows;
  /** Gets the lines that `revmoe train` prints, as `process.stdout` would; nothing is printed without it. */
  output?: Pick<Output, "write">;
  /** Is told every event as it comes: steps, evaluations, messages. What it throws ends the run. */
  onEvent?: (event: RunEvent) => void;
}

export interface TrainResult {
  /** The folder written last: `final`, or the checkpoint with which the run stopped; null where it was stopped before its first step. */
  folder: string | null;
  /** Whether it was stopped before its end. */
  stopped: boolean;
  /** Steps done, with those of the run that was resumed. */
  steps: number;
  /** The last step that was reported (see `logging_steps`); null where there was none to do. */
  record: StepRecord | null;
  /** Bytes of the last step's peak by term; null where there was no step to do. */
  memory: MemoryTerms | null;
}

/** A run under way. */
export interface Training extends AsyncIterable<StepRecord> {
  /** Settled when the run has ended and freed what it held. Rejects with a UserError for what can be mended, and else with a defect. */
  readonly result: Promise<TrainResult>;
  /** The steps from now on, one record for each that is reported. Leaving the loop early stops the run, as the signal does. */
  [Symbol.asyncIterator](): AsyncIterator<StepRecord, undefined>;
}

/** Threads, device and memory limit are the engine's, of which a process has one. */
let underWay: string | null = null;

/**
 * Fine-tunes all parameters of a model; the run begins at once. One run at a time in a process; runs that follow each other do not depend on
 * each other.
 *
 *     const run = train({ model: "base", train_file: "chats.jsonl", output_dir: "runs/first" });
 *     for await (const { step, loss } of run) console.log(step, loss);
 *     const { folder } = await run.result;
 *
 * Errors arrive where the run is awaited or iterated over: UserError with the sentence that the command line prints.
 */
export function train(settings: Settings, options: TrainOptions = {}): Training {
  const listeners = new Set<Listener>();
  let leave = false;
  let record: StepRecord | null = null;
  const write = (event: RunEvent): void => {
    options.onEvent?.(event);
    if (event.kind !== "step") return;
    const { kind: _, ...step } = event;
    record = step;
    for (const listener of listeners) listener.add(step);
  };
  const stop = {
    get aborted() {
      return leave || options.signal?.aborted === true;
    },
  };
  const result = work(settings, options, { write, close() {} }, stop).then((outcome) => ({ ...outcome, record }));
  // Whoever awaits or iterates is told, also when that comes later than the failure.
  result.catch(() => {});
  return {
    result,
    [Symbol.asyncIterator]() {
      const listener = new Listener();
      listeners.add(listener);
      result.then(
        () => listener.end(null),
        (failure) => listener.end({ failure }),
      );
      return {
        next: () => listener.next(),
        return: async () => {
          leave = true;
          listeners.delete(listener);
          await result;
          return { done: true, value: undefined };
        },
      };
    },
  };
}

async function work(
  settings: Settings,
  { rows, validationRows, output }: TrainOptions,
  sink: Sink,
  stop: { readonly aborted: boolean },
): Promise<Omit<TrainResult, "record">> {
  checkObject(settings);
  const given: GivenRows = {
    ...(rows !== undefined && { train_file: await collected(rows, "rows") }),
    ...(validationRows !== undefined && { validation_file: await collected(validationRows, "validationRows") }),
  };
  const names = Object.keys(given) as (keyof GivenRows)[];
  for (const name of names)
    if (settings[name] !== undefined) throw new UserError(`${name}: rows are given in its place. Give one of the two.`);
  const resolved = readSettings(TRAIN_TABLE, {
    ...settings,
    ...Object.fromEntries(names.map((name) => [name, `${name} (rows given)`])),
  });
  const { output_dir } = resolved.settings;
  if (underWay !== null)
    throw new UserError(
      `output_dir: ${output_dir} cannot be trained while the run in ${underWay} is under way in this process. Wait for its result first.`,
    );
  underWay = output_dir;
  try {
    const { stopped, steps, folder, memory } = await runTraining({
      ...resolved,
      rows: given,
      ranks: ALONE,
      // A terminal's width and colours are not asked for: lines are whole and plain.
      out: { write: (text) => output?.write(text) },
      sink,
      listen: () => stop,
    });
    return { stopped, steps, folder: folder === "" ? null : folder, memory };
  } finally {
    underWay = null;
  }
}

async function collected(rows: Rows, name: string): Promise<object[]> {
  if (typeof rows !== "object" || rows === null || !(Symbol.iterator in rows || Symbol.asyncIterator in rows))
    throw new UserError(`${name}: no list of rows is given (expected an iterable of objects such as { text: "..." }).`);
  const all: object[] = [];
  for await (const row of rows) all.push(row);
  return all;
}

/** Steps for one loop: kept until it asks for them. */
class Listener {
  readonly #kept: StepRecord[] = [];
  #ended: { failure: unknown } | "well" | null = null;
  /** Those who asked before a step was there. */
  #waiting: (() => void)[] = [];

  add(step: StepRecord): void {
    this.#kept.push(step);
    this.#wake();
  }

  end(failed: { failure: unknown } | null): void {
    this.#ended = failed ?? "well";
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  async next(): Promise<IteratorResult<StepRecord, undefined>> {
    while (this.#kept.length === 0 && this.#ended === null)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const step = this.#kept.shift();
    if (step !== undefined) return { done: false, value: step };
    if (this.#ended === "well" || this.#ended === null) return { done: true, value: undefined };
    throw this.#ended.failure;
  }
}
