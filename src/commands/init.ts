// `revmoe init`: writes a settings file for `train`, from a few questions or flags. Its words and settings; the work is
// in run/init/.
import { GOALS, GOALS_ABOUT, PLAN_ROWS } from "../plan/settings.js";
import type { SettingRows } from "../settings/table.js";
import { TRAIN_ROWS } from "../train/settings/rows.js";
import type { Command } from "./command.js";

const MACHINE = "The machine";

export const ROWS = {
  output: {
    kind: "string",
    default: "train.yaml",
    metavar: "FILE.yaml",
    about: "the settings file to write; the flag itself may be left out",
  },
  model: { ...TRAIN_ROWS.model, required: false, default: "" },
  train_file: { ...TRAIN_ROWS.train_file, required: false, default: "" },
  format: TRAIN_ROWS.format,
  columns: TRAIN_ROWS.columns,
  output_dir: {
    ...{ kind: "string", default: "", metavar: "FOLDER", group: TRAIN_ROWS.output_dir.group },
    about: `${TRAIN_ROWS.output_dir.about}; none: runs/ and the name of the settings file`,
  },
  max_length: {
    ...{ kind: "integer", default: 0, min: 0, max: TRAIN_ROWS.max_length.max, group: TRAIN_ROWS.max_length.group },
    about: `${TRAIN_ROWS.max_length.about}; 0: one that cuts hardly any of the first rows`,
  },
  gpu: {
    ...PLAN_ROWS.gpu,
    group: MACHINE,
    about: 'card of another machine to train on; a name ("RTX 4090", "H100"), or its memory (24GiB)',
  },
  memory: { ...PLAN_ROWS.memory, group: MACHINE, about: "main memory of the machine; none: what is free on this one" },
  disk: { ...PLAN_ROWS.disk, group: MACHINE, about: "room on the disk of the machine; none: what is free on this one" },
  goal: {
    kind: "choice",
    choices: GOALS,
    default: "balanced",
    group: MACHINE,
    about: `what matters most. ${GOALS_ABOUT}`,
  },
  force: { kind: "boolean", default: false, about: "replace the settings file if it exists" },
} as const satisfies SettingRows;

export const command: Command<typeof ROWS> = {
  name: "init",
  usage: "revmoe init [FILE.yaml] [--setting value ...]",
  example:
    "revmoe init\nrevmoe init first.yaml --model ./Qwen1.5-MoE-A2.7B --train-file chats.jsonl --gpu 'RTX 4090' --memory 64GiB",
  settings: { rows: ROWS },
  positional: { label: "FILE.yaml", about: "the settings file to write", setting: "output" },
  json: true,
  load: () => import("./run/init/init.js"),
};
