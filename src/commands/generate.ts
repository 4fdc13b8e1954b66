// `revmoe generate`: continues a prompt, or answers it. Its words; the settings are in src/library, the work in
// run/generate.ts.
import { GENERATE_TABLE, type GENERATE_ROWS } from "../library/generate-settings.js";
import type { Command } from "./command.js";

export const command: Command<typeof GENERATE_ROWS> = {
  name: "generate",
  usage: "revmoe generate --model FOLDER --prompt TEXT [--setting value ...]",
  example: 'revmoe generate --model runs/first --prompt "Once upon a time" --max-new-tokens 64',
  settings: GENERATE_TABLE,
  json: true,
  load: () => import("./run/generate.js"),
};
