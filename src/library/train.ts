// `train(settings)` for programs. A program watches the run by iterating over its steps, stops it by an AbortSignal or
// by leaving the loop, and awaits its result. It prints nothing unless it is given an output. Its folder is what
// `revmoe train` would write.
import { UserError } from "../errors.js";
import type { Output } from "../metrics/output.js";
import type { RunEvent, Sink, StepRecord } from "../metrics/record.js";
import { ALONE } from "../parallel/collectives.js";
import type { MemoryTerms } from "../step/memory-terms.js";
import type { GivenRows } from "../train/prepare-data.js";
import { TRAIN_TABLE } from "../train/settings/settings.js";
import { runTraining } from "./run-training.js";
import { checkObject, readSettings, type Settings } from "./settings.js";

/**
 * Rows as objects of any kind in docs/data.md, as `{ text }` or `{ messages }`. They are read once, before the first
 * step.
 */
export type Rows = Iterable<object> | AsyncIterable<object>;

export interface TrainOptions {
  /** Stops the run at the end of the step, with a checkpoint from which `resume: "latest"` goes on. */
  signal?: AbortSignal;
  /** Rows to train on, instead of `train_file`. */
  rows?: Rows;
  /** Rows to evaluate on, instead of `validation_file`. */
  validationRows?: Rows;
  /** Gets the lines that `revmoe train` prints, like `process.stdout`; without it nothing is printed. */
  output?: Pick<Output, "write">;
  /** Called with every event as it comes: steps, evaluations, messages. If it throws, the run ends. */
  onEvent?: (event: RunEvent) => void;
}

export interface TrainResult {
  /**
   * The folder written last: `final`, or the checkpoint with which the run stopped; null if it was stopped before its
   * first step.
   */
  folder: string | null;
  /** Whether it was stopped before its end. */
  stopped: boolean;
  /** Number of steps done, including those of the run that was resumed. */
  steps: number;
  /** The last step that was reported (see `logging_steps`); null if there was no step to do. */
  record: StepRecord | null;
  /** Bytes of the last step's peak, by term; null if there was no step to do. */
  memory: MemoryTerms | null;
}

/** A run under way. */
export interface Training extends AsyncIterable<StepRecord> {
  /**
   * Settles when the run has ended and freed what it held. Rejects with a UserError, or with another error for a
   * defect.
   */
  readonly result: Promise<TrainResult>;
  /**
   * The steps from now on, one record for each reported step. Leaving the loop early stops the run, like the signal.
   */
  [Symbol.asyncIterator](): AsyncIterator<StepRecord, undefined>;
}

/** The folder of the run that is under way. A process has one run at a time, since it has one engine. */
let underWay: string | null = null;

/**
 * Fine-tunes all parameters of a model; the run begins at once. A process can have one run at a time; consecutive runs
 * do not depend on each other.
 *
 *     const run = train({ model: "base", train_file: "chats.jsonl", output_dir: "runs/first" });
 *     for await (const { step, loss } of run) console.log(step, loss);
 *     const { folder } = await run.result;
 *
 * Errors arrive where the run is awaited or iterated over: UserError with the message that the command line prints.
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
  // A failure is reported to those who await or iterate, even if they do so later.
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
      // Lines are whole and plain, without a terminal's width and colours.
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

/** Steps for one loop, kept until it asks for them. */
class Listener {
  readonly #kept: StepRecord[] = [];
  #ended: { failure: unknown } | "well" | null = null;
  /** Callbacks of those who wait for the next step. */
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
