// `revmoe info`: describes a model on one screen. Its words and settings; the work is in run/info.ts.
import { SIZE_OR_NONE } from "../settings/size.js";
import type { SettingRows } from "../settings/table.js";
import type { Command } from "./command.js";

export const ROWS = {
  model: {
    kind: "string",
    required: true,
    metavar: "MODEL",
    about: "folder of a Hugging Face checkpoint or of a run, a .gguf file, or a name on the hub: org/name[@revision]",
  },
  memory: { ...SIZE_OR_NONE, about: "main memory that a training step may use; none: what is free now" },
} as const satisfies SettingRows;

export const command: Command<typeof ROWS> = {
  name: "info",
  usage: "revmoe info MODEL [--memory SIZE] [--json]",
  example: "revmoe info ./Qwen1.5-MoE-A2.7B",
  settings: { rows: ROWS },
  positional: { label: "MODEL", about: "the model to describe", setting: "model" },
  json: true,
  load: () => import("./run/info.js"),
};
