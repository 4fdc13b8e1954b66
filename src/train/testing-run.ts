// For tests of whole runs: a folder with the tiny model of test/golden, a tokenizer of single letters and a few rows,
// and a run in this process whose events are collected. Everything is removed when the test ends.
import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import type { EvalRecord, RunEvent, StepRecord } from "../metrics/record.js";
import type { Collectives } from "../parallel/collectives.js";
import { ledger } from "../torch/memory.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { type Outcome, train } from "./loop.js";
import { freeRun, prepareRun, type Run } from "./prepare.js";
import { resolveSettings, type TrainSettings } from "./settings/settings.js";

const GOLDEN = fileURLToPath(new URL("../../test/golden", import.meta.url));

export interface Workplace {
  folder: string;
  /**
   * Three blocks, the middle one dense, unless another golden model is asked for; float32; 80 tokens, of which the
   * tokenizer uses 69.
   */
  model: string;
  /** Fourteen short texts; two fit in a pack of 64 tokens. So an epoch has seven micro-batches of one row. */
  rows: string;
  /** The path of a run's folder, which does not exist yet. */
  out(name?: string): string;
}

/** A new folder to train in, removed after the test. */
export function makeWorkplace(t: TestContext, golden = "hf-tiny"): Workplace {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-train-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const model = join(folder, "model");
  mkdirSync(model);
  for (const file of [
    `${golden}/config.json`,
    `${golden}/model.safetensors`,
    "letters/tokenizer.json",
    "letters/tokenizer_config.json",
  ]) {
    cpSync(join(GOLDEN, file), join(model, file.split("/")[1]));
  }
  const rows = join(folder, "rows.jsonl");
  const texts = Array.from({ length: 14 }, (_, i) => `The sum of ${i} and ${i % 4} is ${i + (i % 4)}.`);
  writeFileSync(rows, texts.map((text) => `${JSON.stringify({ text })}\n`).join(""));
  return { folder, model, rows, out: (name = "run") => join(folder, name) };
}

/** Ten steps of one micro-batch, at a rate at which the tiny model learns, unless `changes` say otherwise. */
export function settingsFor({ model, rows, out }: Workplace, changes: Partial<TrainSettings> = {}): TrainSettings {
  return resolveSettings({
    flags: {
      model,
      train_file: rows,
      output_dir: out(),
      overwrite_output_dir: true, // tests run again and again in one folder
      threads: 1,
      compute_dtype: "float32",
      device: TEST_DEVICE,
      max_length: 64,
      max_steps: 10,
      per_device_train_batch_size: 1,
      learning_rate: 5e-3,
      ...changes,
    },
  }).settings;
}

export interface Ran {
  outcome: Outcome;
  events: RunEvent[];
  steps: StepRecord[];
  losses: number[];
  evals: EvalRecord[];
}

export interface RunOptions {
  /** The step in which a stop is asked for. Like a signal, it is noticed when the event loop turns. */
  stopAt?: number;
  /** Called before the first step. */
  look?: (run: Run) => void;
  ranks?: Collectives;
}

/** Trains to the end or the stop. Asserts that all tensors made are freed afterwards, also on failure. */
export async function runTraining(settings: TrainSettings, { stopAt, look, ranks }: RunOptions = {}): Promise<Ran> {
  const events: RunEvent[] = [];
  const controller = new AbortController();
  const write = (event: RunEvent): void => {
    events.push(event);
    if (event.kind === "step" && event.step === stopAt) setImmediate(() => controller.abort());
  };
  const alive = (): number[] => {
    const { tensors, blocks, liveBytes, mappedBytes } = ledger(TEST_DEVICE);
    return [tensors, blocks, liveBytes, mappedBytes];
  };
  const before = alive();
  const run = await prepareRun(settings, undefined, ranks);
  let finished = false;
  try {
    look?.(run);
    const outcome = await train(run, { write, close: () => {} }, controller.signal);
    finished = true;
    const steps = events.filter((event) => event.kind === "step");
    return {
      outcome,
      events,
      steps,
      losses: steps.map(({ loss }) => loss),
      evals: events.filter((event) => event.kind === "eval"),
    };
  } finally {
    freeRun(run, finished);
    assert.deepEqual(alive(), before, "alive after the run: tensors, blocks, bytes, mapped bytes");
  }
}

/** The bytes of a run's trained weights. */
export const weightsOf = (folder: string): Buffer => readFileSync(join(folder, "model.safetensors"));
