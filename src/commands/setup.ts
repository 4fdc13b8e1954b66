// `revmoe setup`: gets what is missing and builds the engine. Its words; the work is in run/setup.ts.
import type { Command } from "./command.js";

export const command: Command = {
  name: "setup",
  usage: "revmoe setup",
  example: "revmoe setup\nLIBTORCH=/path/to/venv revmoe setup",
  settings: { rows: {} },
  load: () => import("./run/setup.js"),
};
