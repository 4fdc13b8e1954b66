// What makes a folder load in transformers as the network that was trained: config.json names our own classes and
// describes the network under the key `revmoe`; export/modeling_revmoe.py, which has the classes, is copied beside it.
// The model type is not the family's, so a program that does not run this code refuses the folder instead of taking it
// for the ordinary network.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { FAMILIES, familyOf } from "../families/registry.js";
import type { Architecture } from "../model/architecture.js";
import { writeFileDurably } from "./files/disk.js";

const MODELING_FILE = "modeling_revmoe.py";
const MODELING_SOURCE = fileURLToPath(new URL(`../../export/${MODELING_FILE}`, import.meta.url));

/** Starts the names of our classes; the names of transformers' classes that they extend follow. */
const PREFIX = "RevMoe";

/** The key of config.json that describes the network. */
export const NETWORK_KEY = "revmoe";

/** Tells an export which network it writes; `network` is written unchanged. */
export interface TrainedForm {
  network: object;
  extend: (architecture: Architecture) => Architecture;
  /** Writes the other files that our own readers need. */
  extraFiles: (folder: string) => void;
}

/** Turns a family's config.json into that of our network; `addedKeys` are its additional keys. */
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

/** Undoes `trainedConfig`: returns the family's own config.json; any other unchanged. */
export function familyConfig(config: Record<string, unknown>): Record<string, unknown> {
  const { model_type: type } = config;
  const family = FAMILIES.find(({ modelType }) => type === `revmoe_${modelType}`);
  if (family === undefined) return config;
  const { auto_map: _map, [NETWORK_KEY]: _network, ...own } = config;
  return { ...own, model_type: family.modelType, architectures: [family.classes.model] };
}

export const copyModeling = (folder: string): void =>
  writeFileDurably(join(folder, MODELING_FILE), readFileSync(MODELING_SOURCE));
