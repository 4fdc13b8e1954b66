// A worker as its parent sees it. Each row has its own process, so that leftovers of one method do not affect the next,
// and running out of memory ends only the row. Every end of the process is an answer.
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";

import { settleWaiting } from "../torch/waiting.js";
import type { Job, Start } from "./work.js";
import type { Answer, Request } from "./worker.js";

const WORKER = fileURLToPath(new URL("./worker.js", import.meta.url));

export const OUT_OF_MEMORY = "out of memory";

/** A row that cannot go on; the message is its status: "out of memory", or "failed: " and the reason. */
export class RowFailure extends Error {}

export class WorkerProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<null>;
  #said = "";

  /** The caller ends it; aborting `signal` does, too. `script` is for tests. */
  constructor({ signal, script = WORKER }: { signal?: AbortSignal; script?: string } = {}) {
    settleWaiting(); // Once for all rows.
    this.#child = fork(script, {
      signal,
      killSignal: "SIGKILL",
      execArgv: [],
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    this.#child.stderr
      ?.setEncoding("utf8")
      .on("data", (text: string) => (this.#said = (this.#said + text).slice(-4000)));
    this.#ended = new Promise((resolve) => {
      this.#child.once("close", () => resolve(null));
      this.#child.once("error", (failure) => {
        this.#said += failure.message;
        resolve(null);
      });
    });
  }

  /** Errors: RowFailure. */
  async start(job: Job): Promise<Start> {
    const answer = await this.#ask(job);
    if (answer.kind !== "start") throw failureOf(answer);
    return answer.start;
  }

  /** Errors: RowFailure. */
  async step(): Promise<Extract<Answer, { kind: "step" }>> {
    const answer = await this.#ask("step");
    if (answer.kind !== "step") throw failureOf(answer);
    return answer;
  }

  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }

  async #ask(request: Request): Promise<Answer> {
    const answered = new Promise<Answer>((resolve) => this.#child.once("message", resolve));
    this.#child.send(request, () => {}); // a process that is gone is seen by its end
    const answer = await Promise.race([answered, this.#ended]);
    if (answer === null) throw new RowFailure(statusAtEnd(this.#child.exitCode, this.#child.signalCode, this.#said));
    return answer;
  }
}

function failureOf(answer: Answer): Error {
  if (answer.kind !== "failure") return new Error(`internal: a worker answered with ${answer.kind}`);
  return new RowFailure(answer.outOfMemory ? OUT_OF_MEMORY : `failed: ${answer.message}`);
}

/** The system ends a process that uses too much memory with SIGKILL; V8 and the C++ library end themselves. */
function statusAtEnd(code: number | null, signal: string | null, said: string): string {
  if (signal === "SIGKILL" || /heap out of memory|bad_alloc/.test(said)) return OUT_OF_MEMORY;
  const last = said.trim().split("\n").at(-1) ?? "";
  return `failed: its process ended with ${signal ?? `code ${code}`}${last === "" ? "" : `: ${last}`}`;
}
