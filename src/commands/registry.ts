// Every command, in the order of `revmoe --help`. A new one is a line here, a file of words and settings in this folder,
// and a file in run/ for its work.
import type { Command } from "./command.js";

export const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  train: async () => (await import("./train.js")).command,
  data: async () => (await import("./data.js")).command,
  plan: async () => (await import("./plan.js")).command,
  bench: async () => (await import("./bench.js")).command,
  generate: async () => (await import("./generate.js")).command,
  eval: async () => (await import("./eval.js")).command,
  export: async () => (await import("./export.js")).command,
  upcycle: async () => (await import("./upcycle.js")).command,
  verify: async () => (await import("./verify.js")).command,
  setup: async () => (await import("./setup.js")).command,
  doctor: async () => (await import("./doctor.js")).command,
  quickstart: async () => (await import("./quickstart.js")).command,
};
