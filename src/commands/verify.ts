// `revmoe verify`: checks whether something saved is what it was. Its words and settings; the work is in run/verify.ts.
import type { SettingRows } from "../settings/table.js";
import type { Command } from "./command.js";

export const ROWS = {
  path: {
    kind: "string",
    required: true,
    metavar: "PATH",
    about: "a model's folder, a checkpoint-N, a run, a .gguf or .safetensors file, or org/name[@revision] in the cache",
  },
  threads: { kind: "integer", default: 0, min: 0, max: 1024, about: "CPU threads; 0: as many as there are cores" },
} as const satisfies SettingRows;

export const command: Command<typeof ROWS> = {
  name: "verify",
  usage: "revmoe verify PATH [--json]",
  example: "revmoe verify runs/first",
  settings: { rows: ROWS },
  positional: { label: "PATH", about: "what to check", setting: "path" },
  json: true,
  load: () => import("./run/verify.js"),
};
