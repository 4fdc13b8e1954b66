// `revmoe quickstart`: the whole path on a model that comes along. Its words and settings; the work is in run/quickstart.ts.
import type { SettingRows } from "../settings/table.js";
import type { Command } from "./command.js";

export const ROWS = {
  output_dir: {
    kind: "string",
    default: "runs/quickstart",
    metavar: "FOLDER",
    about: "folder of the run; an earlier quickstart there is replaced",
  },
  max_steps: { kind: "integer", default: 80, min: 1, about: "training steps of 2048 tokens" },
  threads: { kind: "integer", default: 0, min: 0, about: "CPU threads; 0: all cores" },
} as const satisfies SettingRows;

export const command: Command<typeof ROWS> = {
  name: "quickstart",
  about: "Fine-tune the tiny model of examples/ on real text and show what it took",
  usage: "revmoe quickstart [--setting value ...]",
  example: "revmoe quickstart --max-steps 40",
  settings: { rows: ROWS },
  load: () => import("./run/quickstart.js"),
};
