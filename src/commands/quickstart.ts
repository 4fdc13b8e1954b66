// `revmoe quickstart`: the whole way on a small model that comes with the program. Its words and settings; the work is
// in run/quickstart.ts.
import type { SettingRows } from "../settings/table.js";
import type { Command } from "./command.js";

/** The default folder of quickstarts. */
export const FOLDER = "runs/quickstart";

export const ROWS = {
  output_dir: {
    kind: "string",
    default: FOLDER,
    metavar: "FOLDER",
    about: `folder of the run; it must be new, but in ${FOLDER} an earlier quickstart is replaced`,
  },
  max_steps: { kind: "integer", default: 80, min: 1, about: "number of training steps, of 2048 tokens each" },
  threads: { kind: "integer", default: 0, min: 0, about: "CPU threads; 0: all cores" },
} as const satisfies SettingRows;

export const command: Command<typeof ROWS> = {
  name: "quickstart",
  usage: "revmoe quickstart [--setting value ...]",
  example: "revmoe quickstart --max-steps 40",
  settings: { rows: ROWS },
  load: () => import("./run/quickstart.js"),
};
