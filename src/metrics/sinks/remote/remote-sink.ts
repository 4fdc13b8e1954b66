// A sink whose events go to a server. This side, in the main thread, passes them to a thread (sender.ts) and never
// waits, except for a moment at the end of the run. The thread's messages are shown at the next event, because a step
// does not let the event loop run. Owns the thread until `close`.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MessageChannel, receiveMessageOnPort, Worker } from "node:worker_threads";

import type { Sink } from "../../record.js";
import { METRICS_FILE } from "../jsonl.js";
import { scalarsOf } from "../scalars.js";
import type { ReportedRun, SinkKind } from "../sink.js";
import { checkHeaders } from "./address.js";
import type { FromSender, Limits, SenderData, ToSender } from "./sender.js";
import type { KnownRun, Target } from "./service.js";

export interface Remote {
  /** A value of report_to. */
  name: string;
  about: string;
  /** `import.meta.url` of the module that exports `connect`. */
  module: string;
  /** The server to report to. Errors: UserError if the environment lacks something, or something in it is wrong. */
  target(environment: Readonly<Record<string, string | undefined>>): Target;
}

const LIMITS: Limits = {
  ...{ collectMs: 2000, requestMs: 10_000, restMs: 1000, longestRestMs: 60_000 },
  ...{ endMs: 15_000, endTries: 3, mostWaiting: 10_000 },
};
/** Extra time for the thread to end, beyond its own limit. */
const GRACE_MS = 1000;
const MEGABYTES = 128;

/** A kind of sink that reports to a server. */
export function remoteKind(given: Remote): SinkKind & { remote: Remote } {
  const { name, about } = given;
  const file = keptIn(name);
  const target: Remote["target"] = (environment) => {
    const found = given.target(environment);
    checkHeaders(name, found.headers);
    return found;
  };
  const remote = { ...given, target };
  return {
    ...{ name, about, remote, hasRunName: true },
    owns: (entry) => entry === file || entry === `${file}.new`,
    check: () => void target(process.env),
    open: (run) => remoteSink(remote, target(process.env), run),
  };
}

/** The file in a run's folder that keeps the run's id on the server. */
const keptIn = (name: string): string => `reported-${name}.json`;

export function remoteSink(
  { name, module }: Remote,
  target: Target,
  run: ReportedRun,
  limits: Partial<Limits> = {},
): Sink {
  const file = join(run.dir, keptIn(name));
  const all = { ...LIMITS, ...limits };
  const state = new Int32Array(new SharedArrayBuffer(8));
  const { port1: port, port2 } = new MessageChannel();
  const known = run.startStep > 0 ? readKnown(file, target.url) : null;
  const described = { target, name: run.name, params: run.params, known };
  const data: SenderData = { module, file, limits: all, described, port: port2, state };
  const thread = new Worker(new URL("./sender.js", import.meta.url), {
    workerData: data,
    transferList: [port2],
    resourceLimits: { maxOldGenerationSizeMb: MEGABYTES },
  });
  let failure: Error | null = null;
  thread.on("error", (error) => {
    failure = error;
  });
  thread.unref();
  port.unref();
  let written = 0;
  const hear = (): void => {
    for (let heard = receiveMessageOnPort(port); heard !== undefined; heard = receiveMessageOnPort(port)) {
      const { message, level } = heard.message as FromSender;
      run.say(`${name}: ${message}`, level);
    }
  };
  const post = (message: ToSender): void => port.postMessage(message);
  return {
    write: (event) => {
      hear();
      const values = scalarsOf(event);
      if (values.length === 0) return;
      written++;
      post({ point: { step: event.step, time: Date.now(), values } });
    },
    close: (end = "finished") => {
      post({ end });
      const waited = failure === null && Atomics.wait(state, 0, 0, all.endMs + all.requestMs + GRACE_MS);
      hear();
      const unsent = written - Atomics.load(state, 1);
      const why = failure !== null ? ` (${failure.message})` : waited === "timed-out" ? ", which is slow" : "";
      if (unsent > 0)
        run.say(
          `${name}: ${unsent} of ${written} records were not sent to ${target.url}${why}; ` +
            `${join(run.dir, METRICS_FILE)} has all of them`,
          "warning",
        );
      void thread.terminate();
      port.close();
    },
  };
}

/** The run on the same server to which this folder's run reported before. */
function readKnown(file: string, url: string): KnownRun | null {
  try {
    const known = JSON.parse(readFileSync(file, "utf8")) as Partial<KnownRun>;
    return known.url === url && typeof known.id === "string" ? { url, id: known.id } : null;
  } catch {
    return null;
  }
}
