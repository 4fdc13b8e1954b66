// For the tests of this folder: a tiny model with sparse and dense layers, temporary folders, and files given by their
// bytes.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { readArchitecture } from "../families/registry.js";
import { placedParameters, randomModel, type Model } from "../model/model.js";
import type { DType } from "../torch/tensor.js";
import { fullName } from "./layout.js";
import { sameBits } from "./verify.js";

export const CONFIG = {
  model_type: "qwen2_moe",
  vocab_size: 40,
  hidden_size: 16,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  intermediate_size: 24,
  moe_intermediate_size: 8,
  shared_expert_intermediate_size: 12,
  num_experts: 4,
  num_experts_per_tok: 2,
  num_hidden_layers: 3,
  mlp_only_layers: [1],
  tie_word_embeddings: false,
  torch_dtype: "float32",
};
/** The same as text, with numbers that JavaScript would write differently. */
export const CONFIG_TEXT = JSON.stringify(CONFIG, null, 1).replace(
  /\}$/,
  ', "rope_theta": 10000.0, "rms_norm_eps": 1e-06 }\n',
);

/** A random model of `CONFIG` with changes; the caller frees it. */
export function tinyModel(dtype: DType, changes: Record<string, unknown> = {}): Model {
  const source = { ...(JSON.parse(CONFIG_TEXT) as Record<string, unknown>), ...changes };
  const architecture = readArchitecture(source, "tiny");
  return randomModel(architecture, 7, dtype, "cpu");
}

/** Runs `body` with a new folder, removed afterwards. */
export function withFolder(body: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-checkpoint-"));
  try {
    body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The full names of parameters whose bits differ between two models. */
export function differences(a: Model, b: Model): string[] {
  return placedParameters(a.architecture)
    .filter(({ layer, spec }) => {
      const [left, right] = [a, b].map((model) => (layer < 0 ? model.outer : model.blocks[layer])[spec.name]);
      return !sameBits(left, right);
    })
    .map(fullName);
}

/** A safetensors file made of any header (object or text) and data, right or wrong. */
export function writeRaw(path: string, header: unknown, data: Uint8Array = new Uint8Array()): void {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([length, text, data]));
}
