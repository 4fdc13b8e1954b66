// `revmoe doctor`: reports what was found on this machine, and what is missing. Its words; the work is in
// run/doctor.ts.
import type { Command } from "./command.js";

export const command: Command = {
  name: "doctor",
  usage: "revmoe doctor [--json]",
  example: "revmoe doctor",
  settings: { rows: {} },
  json: true,
  load: () => import("./run/doctor.js"),
};
