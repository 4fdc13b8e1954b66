// `revmoe bench`: compares methods on the same work. Its words; the settings are in src/compare, the work in
// run/bench.ts.
import type { BENCH_ROWS } from "../compare/setting-rows.js";
import { BENCH_TABLE } from "../compare/settings.js";
import type { Command } from "./command.js";

export const command: Command<typeof BENCH_ROWS> = {
  name: "bench",
  usage: "revmoe bench --model FOLDER|config.json [--setting value ...]",
  example:
    "revmoe bench --model ./Qwen1.5-MoE-A2.7B --max-length 2048\n" +
    "revmoe bench --model examples/tiny-moe/config.json --layers 4,12,24 --coupling auto --gamma 0.25,-1 --svg depth.svg",
  settings: BENCH_TABLE,
  json: true,
  load: () => import("./run/bench.js"),
};
