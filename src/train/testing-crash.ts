// A run that is killed again and again, for tests: `crashingRun` begins it in processes of its own. A thread that does
// not wait for the step kills each with SIGKILL at its moment; the last process runs to the end. As a program, this
// file is such a process.
import { spawn } from "node:child_process";
import { appendFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import { listCheckpoints, STATE_FILE } from "../checkpoint/run/checkpoints.js";
import { workingFolder } from "../checkpoint/run/marker.js";
import type { TrainSettings } from "./settings/settings.js";
import { freeRun, prepareRun } from "./prepare.js";
import { train } from "./loop.js";

/** What one process did. */
export interface Life {
  killed: boolean;
  /** The step from which it went on; null if it was killed before it was ready. */
  startStep: number | null;
  /** Losses of the steps that it reported as done, by step. */
  losses: Map<number, number>;
  /** Times of the steps that it reported. */
  stepMs: number[];
}

/** Runs, and kills after each of `delaysMs`, counted from the beginning of training; then runs once to the end. */
export async function crashingRun(settings: TrainSettings, delaysMs: number[]): Promise<Life[]> {
  const lives: Life[] = [];
  for (const delayMs of [...delaysMs, null]) {
    const { output_dir } = settings;
    const resumable = listCheckpoints(output_dir).length > 0 || existsSync(join(workingFolder(output_dir), STATE_FILE));
    mkdirSync(dirname(output_dir), { recursive: true });
    const log = join(dirname(output_dir), `life-${lives.length}.txt`);
    const work = { settings: { ...settings, resume: resumable ? "latest" : "" }, delayMs, log };
    lives.push({ ...readLog(log, await live(work)) });
    if (!lives[lives.length - 1].killed) break;
  }
  return lives;
}

interface Work {
  settings: TrainSettings;
  delayMs: number | null;
  log: string;
}

function live(work: Work): Promise<boolean> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), JSON.stringify(work)], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  return new Promise((resolve, reject) => {
    child.on("close", (code, signal) => {
      if (signal === "SIGKILL") resolve(true);
      else if (code === 0) resolve(false);
      else reject(new Error(said));
    });
  });
}

function readLog(log: string, killed: boolean): Life {
  const lines = existsSync(log) ? readFileSync(log, "utf8").trim().split("\n") : [];
  const steps = lines.slice(1).map((line) => line.split(" ").map(Number));
  return {
    killed,
    startStep: lines.length > 0 ? Number(lines[0]) : null,
    losses: new Map(steps.map(([step, loss]) => [step, loss])),
    stepMs: steps.map((step) => step[2]),
  };
}

async function main({ settings, delayMs, log }: Work): Promise<void> {
  const run = await prepareRun(settings);
  appendFileSync(log, `${run.startStep}\n`);
  if (delayMs !== null) {
    const killer = `setTimeout(() => process.kill(${process.pid}, "SIGKILL"), ${delayMs}); require("node:worker_threads").parentPort.postMessage("")`;
    await new Promise((ready) => new Worker(killer, { eval: true }).once("message", ready));
  }
  await train(run, {
    write: (event) => {
      if (event.kind === "step") appendFileSync(log, `${event.step} ${event.loss} ${event.stepMs}\n`);
    },
    close: () => {},
  });
  freeRun(run, true);
  process.exit(0);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(JSON.parse(process.argv[2]) as Work);
