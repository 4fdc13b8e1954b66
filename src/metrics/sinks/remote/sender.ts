// A thread that sends a run's numbers to one server, so that a step never waits for it, nor it for a step, which may
// keep the main thread busy for minutes. It collects numbers, sends them in batches, and retries after longer and
// longer pauses. It reports once that the server does not answer. The number of waiting points is bounded.
import { renameSync, writeFileSync } from "node:fs";
import { type MessagePort, workerData } from "node:worker_threads";

import type { RunEnd } from "../../record.js";
import { asking } from "./ask.js";
import { type Described, type KnownRun, type Point, Refused, type ServiceModule } from "./service.js";

export interface Limits {
  /** How long numbers are collected before they are sent. */
  collectMs: number;
  requestMs: number;
  /** Pause before the second try; it doubles up to `longestRestMs`. */
  restMs: number;
  longestRestMs: number;
  /** How long, and with how many tries, the end of a run waits for what is still to be sent. */
  endMs: number;
  endTries: number;
  /** Most points that wait; more are dropped. */
  mostWaiting: number;
}

export interface SenderData {
  /** Address of the module that exports `connect`. */
  module: string;
  described: Described;
  limits: Limits;
  /** The file that keeps the run's id on the server. */
  file: string;
  port: MessagePort;
  /** [0]: 1 when all is done; [1]: number of points that the server took. */
  state: Int32Array;
}

export type ToSender = { point: Point } | { end: RunEnd };
export type FromSender = { level: "info" | "warning"; message: string };

/** Most points of one request; MLflow takes 1000 numbers. */
const MOST_POINTS = 50;

const { module, described, limits, file, port, state } = workerData as SenderData;
const say = (message: string, level: FromSender["level"] = "info"): void =>
  port.postMessage({ message, level } satisfies FromSender);
const { url } = described.target;

const waiting: Point[] = [];
let end: RunEnd | null = null;
/** Time of the clock; set when the run ends. */
let deadline = Number.POSITIVE_INFINITY;
let wake = (): void => {};

port.on("message", (message: ToSender) => {
  if ("end" in message) {
    end = message.end;
    deadline = Date.now() + limits.endMs;
    wake();
  } else if (waiting.length < limits.mostWaiting) waiting.push(message.point);
});

/** Waits until the time is over or the run ends. */
const rest = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });

/** Thrown when the run is over and there is no time left to try again. */
class OutOfTime extends Error {}

/** What has been reported already. */
let silent = false;
let refused = false;

/** Calls `work` until it succeeds. Errors: Refused, OutOfTime. */
async function untilDone<Result>(work: () => Promise<Result>): Promise<Result> {
  for (let [tries, triesAtEnd] = [0, 0]; ; ) {
    try {
      const result = await work();
      if (silent) say(`${url} answers again`);
      silent = false;
      return result;
    } catch (failure) {
      if (failure instanceof Refused) throw failure;
      if (!silent)
        say(`${url} fails (${(failure as Error).message}). Training goes on, and it is asked again.`, "warning");
      silent = true;
    }
    if (end === null) await rest(Math.min(limits.longestRestMs, limits.restMs * 2 ** tries++));
    else if (++triesAtEnd === limits.endTries || Date.now() >= deadline) throw new OutOfTime();
    else await rest(Math.min(limits.restMs * triesAtEnd, deadline - Date.now()));
  }
}

async function report(): Promise<void> {
  const { connect } = (await import(module)) as ServiceModule;
  const service = connect(described, asking(described.target, limits.requestMs));
  const { id, page } = await untilDone(() => service.begin());
  keep({ url, id });
  say(`${described.known?.id === id ? "goes on at" : "reported to"} ${page}`);
  while (end === null || waiting.length > 0) {
    if (end === null && waiting.length < MOST_POINTS) await rest(limits.collectMs);
    const batch = waiting.slice(0, MOST_POINTS);
    if (batch.length === 0) continue;
    try {
      await untilDone(() => service.send(batch));
      Atomics.add(state, 1, batch.length);
    } catch (failure) {
      if (!(failure instanceof Refused) || failure.isAboutKeys) throw failure;
      if (!refused) say(`${url} ${failure.message}. What it does not take is left out.`, "warning");
      refused = true;
    }
    waiting.splice(0, batch.length);
  }
  await untilDone(() => service.end(end as RunEnd));
}

function keep(run: KnownRun): void {
  try {
    writeFileSync(`${file}.new`, `${JSON.stringify(run)}\n`);
    renameSync(`${file}.new`, file);
  } catch (failure) {
    const { code, message } = failure as NodeJS.ErrnoException;
    say(`${file} cannot be written (${code ?? message}): resuming will begin another run there`, "warning");
  }
}

try {
  await report();
} catch (failure) {
  if (!(failure instanceof OutOfTime) && !refused)
    say(`${url} ${failure instanceof Refused ? failure.message : failure}. Nothing more is sent there.`, "warning");
  else if (failure instanceof OutOfTime && waiting.length === 0)
    say(`${url} was not told that the run has ended`, "warning");
} finally {
  Atomics.store(state, 0, 1);
  Atomics.notify(state, 0);
  port.close();
}
