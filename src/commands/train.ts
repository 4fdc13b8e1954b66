// `revmoe train`: settings in, a run folder out. Its words; the settings are in src/train/settings, the work in
// run/train.ts.
import { TRAIN_TABLE } from "../train/settings/settings.js";
import type { TRAIN_ROWS } from "../train/settings/rows.js";
import type { Command } from "./command.js";

export const command: Command<typeof TRAIN_ROWS> = {
  name: "train",
  usage: "revmoe train [CONFIG.yaml] [--setting value ...]",
  example:
    "revmoe train --model ./Qwen1.5-MoE-A2.7B --train-file chats.jsonl --validation-rows 50 --output-dir runs/first",
  settings: TRAIN_TABLE,
  positional: { label: "CONFIG.yaml", about: "a YAML file of settings; flags override it" },
  load: () => import("./run/train.js"),
};
