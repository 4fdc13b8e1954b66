// For the tests of this folder: the dense golden models of test/golden/make_dense.py, changed copies of them, and
// logits of the resulting folders.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { loadModel } from "../checkpoint/load.js";
import { openSafetensors } from "../checkpoint/safetensors/file.js";
import { fullLogits } from "../generate/testing-network.js";
import { freeModel } from "../model/model.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import { floatStreams } from "../reversible/streams.js";
import { scope } from "../torch/scope.js";
import { toArray } from "../torch/tensor.js";
import type { UpcycleOptions } from "./upcycle.js";
import { deviceStore } from "../store/device.js";

export const OPTIONS: UpcycleOptions = {
  to: "auto",
  numExperts: 4,
  expertsPerToken: 2,
  expertWidth: 0,
  decoderSparseStep: 1,
  routerStd: 1,
  noise: 0,
  seed: 42,
  weightsDtype: "auto",
  allowInexact: false,
};

export const denseFolder = (name: string): string =>
  fileURLToPath(new URL(`../../test/golden/dense/${name}`, import.meta.url));

export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-upcycle-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A copy of a golden model with changed values in config.json; undefined removes a key. */
export function changedDense(t: TestContext, name: string, changes: Record<string, unknown>): string {
  const folder = join(temporaryFolder(t), name);
  cpSync(denseFolder(name), folder, { recursive: true });
  const path = join(folder, "config.json");
  writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, "utf8")) as object), ...changes }));
  return folder;
}

/** The tokens of a golden model, and what transformers computes for them. */
export function golden(name: string): { tokens: number[]; logits: number[] } {
  const file = openSafetensors(join(denseFolder(name), "golden.safetensors"));
  const [tokens, logits] = scope(() => ["input_ids", "logits"].map((tensor) => toArray(file.read(tensor))));
  file.close();
  return { tokens, logits };
}

/** The logits of our ordinary network for a mixture's folder. */
export function logitsOf(folder: string, tokens: number[]): number[] {
  const model = loadModel(folder, { weightsDtype: "float32", device: "cpu" });
  const rest = {
    coupling: ordinary,
    format: floatStreams("float32"),
    computeDtype: "float32",
    device: "cpu",
    store: deviceStore("cpu"),
    lossTileTokens: 64,
  } as const;
  const logits = fullLogits({ model, ...rest }, tokens).flat();
  freeModel(model);
  return logits;
}

/** Euclidean distance relative to the length of `expected`. */
export function relativeError(actual: number[], expected: number[]): number {
  const norm = (values: number[]): number => Math.sqrt(values.reduce((total, value) => total + value * value, 0));
  return norm(expected.map((value, i) => value - actual[i])) / norm(expected);
}
