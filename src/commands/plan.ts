// `revmoe plan`: predicts what a training step will take. Its words; the settings are in src/plan, the work in
// run/plan.ts.
import { PLAN_TABLE, type PLAN_ROWS } from "../plan/settings.js";
import type { Command } from "./command.js";

export const command: Command<typeof PLAN_ROWS> = {
  name: "plan",
  usage: "revmoe plan --model FOLDER|config.json [--setting value ...]",
  example:
    "revmoe plan --model ./Qwen1.5-MoE-A2.7B/config.json --gpu 24GiB --memory 64GiB --disk 500GiB\n" +
    "revmoe plan --model examples/tiny-moe --compare --svg plan.svg",
  settings: PLAN_TABLE,
  json: true,
  load: () => import("./run/plan.js"),
};
