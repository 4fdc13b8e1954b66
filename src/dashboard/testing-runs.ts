// For tests of this folder: folders of runs as training leaves them, and events with known values. All are removed
// after the test.
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

import { writeMarker } from "../checkpoint/run/marker.js";

/** A new folder, removed after the test. */
export function makeFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-dashboard-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const MEMORY = {
  weightBytes: 400,
  stateBytes: 50,
  gradientBytes: 200,
  streamBytes: 100,
  keptBytes: 40,
  teacherBytes: 0,
};

/**
 * The folder of a run with `steps` lines of metrics, an evaluation, a sample and a warning; with 0 steps, of a run that
 * has just begun. Returns its path.
 */
export function makeRun(folder: string, name: string, steps: number): string {
  const dir = join(folder, name);
  mkdirSync(dir, { recursive: true });
  writeMarker(dir, { replacing: false });
  writeFileSync(join(dir, "config.json"), JSON.stringify({ learning_rate: steps / 1e4, optimizer: "adamw" }));
  const memory = { ...MEMORY, workBytes: 210, peakBytes: 1000 };
  writeFileSync(join(dir, "plan.json"), JSON.stringify({ totalSteps: 2 * steps, memory }));
  for (let step = 1; step <= steps; step++) addLine(dir, stepLine(step));
  if (steps === 0) return dir;
  addLine(dir, { kind: "eval", step: steps, evalLoss: 2.25, evalMeanTokenAccuracy: 0.5, network: "trained" });
  addLine(dir, { kind: "sample", step: steps, prompt: "Call me", text: " <b>Ishmael</b>.", network: "trained" });
  addLine(dir, { kind: "message", step: steps, message: "a spike", level: "warning" });
  return dir;
}

export const stepLine = (step: number): { kind: string; step: number } & Record<string, unknown> => ({
  kind: "step",
  step,
  loss: 4 - step / 10,
  meanTokenAccuracy: 0.25,
  learningRate: 1e-3,
  gradNorm: 1.5,
  tokensPerSecond: 1234,
  stepMs: 200,
  epoch: step / 10,
  ...{ ...MEMORY, workBytes: 200 + step, peakBytes: 990 + step },
  expertLoad: [0, 1, 2].map((layer) => ({ layer, maxOverMean: 1 + layer / 2, entropy: 2, dead: layer })),
});

export const addLine = (dir: string, event: object): void => addText(dir, `${JSON.stringify(event)}\n`);

export const addText = (dir: string, text: string | Uint8Array): void =>
  appendFileSync(join(dir, "metrics.jsonl"), text);
