// What makes a folder load in transformers as the network that was trained: config.json names our own classes and
// describes the network under the key `revmoe`; export/modeling_revmoe.py, which has the classes, is copied beside it.
// The model type is not the family's, so a program that does not run this code refuses the folder instead of taking it
// for the ordinary network.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { excerpt, UserError } from "../errors.js";
import type { Architecture } from "../model/architecture.js";
import { writeFileDurably } from "./files/disk.js";

const MODELING_FILE = "modeling_revmoe.py";
const MODELING_SOURCE = fileURLToPath(new URL(`../../export/${MODELING_FILE}`, import.meta.url));

/** The key of config.json that describes the network. */
export const NETWORK_KEY = "revmoe";

/** Stems of the names of families' classes in transformers. */
const CLASSES: Record<string, string> = {
  qwen2_moe: "Qwen2Moe",
  qwen3_moe: "Qwen3Moe",
  mixtral: "Mixtral",
  olmoe: "Olmoe",
  granitemoe: "GraniteMoe",
  glm4_moe: "Glm4Moe",
  minimax_m2: "MiniMaxM2",
  ernie4_5_moe: "Ernie4_5_Moe",
  deepseek_v3: "DeepseekV3",
  deepseek_v2: "DeepseekV2",
  glm4_moe_lite: "Glm4MoeLite",
  gpt_oss: "GptOss",
  qwen3_next: "Qwen3Next",
  qwen3_5_moe_text: "Qwen3_5Moe",
};

/** Tells an export which network it writes; `network` is written unchanged. */
export interface TrainedForm {
  network: object;
  extend: (architecture: Architecture) => Architecture;
  /** Writes the other files that our own readers need. */
  extraFiles: (folder: string) => void;
}

/**
 * Turns a family's config.json into that of our network; `addedKeys` are its additional keys. Errors: UserError for a
 * family without classes in export/.
 */
export function trainedConfig(
  config: Record<string, unknown>,
  network: object,
): { config: Record<string, unknown>; addedKeys: Record<string, unknown> } {
  const family = String(config.model_type);
  if (!Object.hasOwn(CLASSES, family)) {
    throw new UserError(
      `as: trained is not possible for ${excerpt(family)} (expected ${Object.keys(CLASSES).join(", ")}). Set as to ordinary.`,
    );
  }
  const stem = `RevMoe${CLASSES[family]}`;
  const code = MODELING_FILE.replace(/\.py$/, "");
  return {
    config: { ...config, model_type: `revmoe_${family}`, architectures: [`${stem}ForCausalLM`] },
    addedKeys: {
      auto_map: { AutoConfig: `${code}.${stem}Config`, AutoModelForCausalLM: `${code}.${stem}ForCausalLM` },
      [NETWORK_KEY]: network,
    },
  };
}

/** Undoes `trainedConfig`: returns the family's own config.json; any other unchanged. */
export function familyConfig(config: Record<string, unknown>): Record<string, unknown> {
  const { model_type: type } = config;
  const family = (typeof type === "string" && /^revmoe_(\w+)$/.exec(type)?.[1]) || "";
  if (!Object.hasOwn(CLASSES, family)) return config;
  const { auto_map: _map, [NETWORK_KEY]: _network, ...own } = config;
  return { ...own, model_type: family, architectures: [`${CLASSES[family]}ForCausalLM`] };
}

export const copyModeling = (folder: string): void =>
  writeFileDurably(join(folder, MODELING_FILE), readFileSync(MODELING_SOURCE));
