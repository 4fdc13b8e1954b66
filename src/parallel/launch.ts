// Starts the ranks of a run as processes of this machine, under the names that torchrun gives. Rank 0 has the terminal; lines of the others go to stderr
// with their rank before them. The first that fails ends all. Owns the processes until all have ended.
import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { availableParallelism } from "node:os";
import { createInterface } from "node:readline";

import type { Output } from "../metrics/output.js";
import type { NodePlace } from "./launch-names.js";

/** Between being asked to end and being ended. */
const GRACE_MS = 30_000;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** As a shell counts an end by a signal. */
const SIGNAL_BASE = 128;
const NUMBER_OF: Partial<Record<NodeJS.Signals, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGKILL: 9,
  SIGTERM: 15,
  SIGSEGV: 11,
  SIGABRT: 6,
};

/** Runs `command`, a program and its words, `nproc` times; returns 0, or the code of the first rank that failed. */
export async function launchRanks(command: readonly string[], place: NodePlace, err: Output): Promise<number> {
  const { nproc, nodeRank } = place;
  const children = Array.from({ length: nproc }, (_, local) => startRank(command, place, local, err));
  const passOn = (signal: NodeJS.Signals): void => children.forEach((child) => void child.kill(signal));
  let asked = false;
  const stop = (signal: NodeJS.Signals): void => {
    asked = true;
    passOn(signal);
  };
  for (const signal of SIGNALS) process.on(signal, stop);
  let code = 0;
  let last: NodeJS.Timeout | undefined;
  const endAll = (): void => {
    passOn("SIGTERM");
    last = setTimeout(() => passOn("SIGKILL"), GRACE_MS);
  };
  await Promise.all(
    children.map(async (child, local) => {
      const ended = await endOf(child);
      if (ended.code === 0 || code !== 0) return;
      code = ended.code;
      // They agree on it, and one may still be saving.
      if (asked) return;
      err.write(`revmoe launch: rank ${nodeRank * nproc + local} ended with ${ended.how}; the others are ended\n`);
      endAll();
    }),
  );
  clearTimeout(last);
  for (const signal of SIGNALS) process.off(signal, stop);
  return code;
}

function startRank(command: readonly string[], place: NodePlace, local: number, err: Output): ChildProcess {
  const { nproc, nnodes, nodeRank, host, port } = place;
  const rank = nodeRank * nproc + local;
  const [program, ...words] = command;
  const child = spawn(program, words, {
    // A terminal's Ctrl-C comes from here alone: a second one would leave without the step.
    detached: true,
    stdio: ["ignore", rank === 0 ? "inherit" : "pipe", rank === 0 ? "inherit" : "pipe"],
    env: {
      OMP_NUM_THREADS: String(Math.max(1, Math.floor(availableParallelism() / nproc))),
      ...process.env,
      RANK: String(rank),
      LOCAL_RANK: String(local),
      WORLD_SIZE: String(nproc * nnodes),
      LOCAL_WORLD_SIZE: String(nproc),
      GROUP_RANK: String(nodeRank),
      MASTER_ADDR: host,
      MASTER_PORT: String(port),
    },
  });
  for (const stream of [child.stdout, child.stderr]) {
    if (stream) createInterface({ input: stream }).on("line", (line) => err.write(`[rank ${rank}] ${line}\n`));
  }
  return child;
}

function endOf(child: ChildProcess): Promise<{ code: number; how: string }> {
  return new Promise((resolve) => {
    child.on("error", ({ message }) => resolve({ code: 1, how: message }));
    child.on("close", (code, signal) =>
      resolve({
        code: code ?? SIGNAL_BASE + (signal ? (NUMBER_OF[signal] ?? 0) : 0),
        how: signal ?? `code ${code}`,
      }),
    );
  });
}

/** A port of this machine that nobody listens on now, below those that the system gives to connections: one could have it before it is used. */
export async function freePort(): Promise<number> {
  const port = randomInt(16_384, 32_768);
  const isFree = await new Promise<boolean>((resolve) => {
    const server = createServer();
    server.on("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
  return isFree ? port : freePort();
}
