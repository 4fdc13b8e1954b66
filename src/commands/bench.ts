// `revmoe bench`: methods compared on the same work. Tables for people, or one JSON document; on request a drawing of
// memory against depth. Ctrl-C ends the running process and leaves nothing behind.
import { describeBench } from "../bench/table.js";
import { BENCH_TABLE, type BENCH_ROWS } from "../bench/settings.js";
import { depthChart } from "../bench/svg.js";
import type { Command } from "./command.js";
import { checkDrawing, writeDrawing } from "./drawing.js";

export const command: Command<typeof BENCH_ROWS> = {
  name: "bench",
  summary: "Compare memory, time and gradients of methods on the same work",
  usage: "revmoe bench --model FOLDER|config.json [--setting value ...]",
  example:
    "revmoe bench --model ./Qwen1.5-MoE-A2.7B --max-length 2048\n" +
    "revmoe bench --model examples/tiny-moe/config.json --layers 4,12,24 --coupling auto --gamma 0.25,-1 --svg depth.svg",
  settings: BENCH_TABLE,
  json: true,
  run: async ({ settings, json, out, err }) => {
    const { bench } = await import("../bench/bench.js");
    if (settings.svg !== "") checkDrawing(settings.svg); // before hours of work, not after
    const controller = new AbortController();
    const stop = (): void => controller.abort();
    for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, stop);
    try {
      const result = await bench(settings, {
        signal: controller.signal,
        onRow: ({ method, coupling, layers, maxLength, stepMs, status }) => {
          const figure = status === "ok" ? `${stepMs?.toFixed(0)} ms a step` : status;
          if (!json) err.write(`${method}, ${coupling}, ${layers} blocks, rows of ${maxLength} tokens: ${figure}\n`);
        },
      });
      if (settings.svg !== "") writeDrawing(settings.svg, depthChart(result.rows, `${result.model}, ${result.tokens} tokens a step`));
      out.write(json ? `${JSON.stringify(result, null, 2)}\n` : `${describeBench(result)}\n`);
      if (settings.svg !== "" && !json) out.write(`\nmemory against depth: ${settings.svg}\n`);
      return result.rows.some(({ status }) => status.startsWith("failed")) ? 1 : 0;
    } catch (failure) {
      if (controller.signal.aborted) return 130;
      throw failure;
    } finally {
      for (const name of ["SIGINT", "SIGTERM"] as const) process.off(name, stop);
    }
  },
};
