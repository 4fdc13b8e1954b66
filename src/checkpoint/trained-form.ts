// What makes a folder load in transformers as the network that was trained: config.json names classes of our own, and
// says in `revmoe` which network it is; export/modeling_revmoe.py, which has the classes, is copied beside it. The model
// type is not the family's, so that whoever does not run the code refuses the folder, and does not take it for the
// ordinary network.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { FAMILIES, familyOf } from "../families/registry.js";
import type { Architecture } from "../model/architecture.js";
import { writeFileDurably } from "./files/disk.js";

const MODELING_FILE = "modeling_revmoe.py";
const MODELING_SOURCE = fileURLToPath(new URL(`../../export/${MODELING_FILE}`, import.meta.url));

/** In front of the names of the classes of transformers that ours extend. */
const PREFIX = "RevMoe";

/** The key of config.json that says which network it is. */
export const NETWORK_KEY = "revmoe";

/** How an export is told which network it is; `network` is written as it is. */
export interface TrainedForm {
  network: object;
  extend: (architecture: Architecture) => Architecture;
  /** Writes what else our own readers need beside it. */
  extraFiles: (folder: string) => void;
}

/** A family's config.json as that of a network of ours, and the keys it has beside the family's. */
export function trainedConfig(
  config: Record<string, unknown>,
  network: object,
): { config: Record<string, unknown>; addedKeys: Record<string, unknown> } {
  const { modelType, classes } = familyOf(config, "config.json");
  const code = MODELING_FILE.replace(/\.py$/, "");
  const model = `${code}.${PREFIX}${classes.model}`;
  const sees = classes.model.endsWith("ForConditionalGeneration");
  return {
    config: { ...config, model_type: `revmoe_${modelType}`, architectures: [PREFIX + classes.model] },
    addedKeys: {
      auto_map: {
        AutoConfig: `${code}.${PREFIX}${classes.config}`,
        AutoModelForCausalLM: model,
        ...(sees && { AutoModelForImageTextToText: model }),
      },
      [NETWORK_KEY]: network,
    },
  };
}

/** The family's own config.json of one that `trainedConfig` made; any other as it is. */
export function familyConfig(config: Record<string, unknown>): Record<string, unknown> {
  const { model_type: type } = config;
  const family = FAMILIES.find(({ modelType }) => type === `revmoe_${modelType}`);
  if (family === undefined) return config;
  const { auto_map: _map, [NETWORK_KEY]: _network, ...own } = config;
  return { ...own, model_type: family.modelType, architectures: [family.classes.model] };
}

export const copyModeling = (folder: string): void =>
  writeFileDurably(join(folder, MODELING_FILE), readFileSync(MODELING_SOURCE));
