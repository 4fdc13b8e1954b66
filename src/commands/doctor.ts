// `revmoe doctor`: what was found on this machine, and what is missing. Its words; the work is in run/doctor.ts.
import type { Command } from "./command.js";

export const command: Command = {
  name: "doctor",
  about: "show what was found: libtorch, devices, BLAS, processor, memory; what is missing and how to get it",
  usage: "revmoe doctor [--json]",
  example: "revmoe doctor",
  settings: { rows: {} },
  json: true,
  load: () => import("./run/doctor.js"),
};
