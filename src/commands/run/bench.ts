// `revmoe bench`: compares methods on the same work. Prints tables for people, or one JSON document; on request it
// draws memory against depth. Ctrl-C ends the running process and leaves nothing behind.
import { describeBench } from "../../compare/table.js";
import type { BENCH_ROWS } from "../../compare/setting-rows.js";
import { checkDrawing, writeDrawing } from "../drawing/drawing.js";
import { depthChart } from "../../compare/svg.js";
import type { CommandInput } from "../command.js";
import { bench } from "../../compare/bench.js";

export async function run({ settings, json, out, err }: CommandInput<typeof BENCH_ROWS>): Promise<number> {
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
    if (settings.svg !== "")
      writeDrawing(settings.svg, depthChart(result.rows, `${result.model}, ${result.tokens} tokens a step`));
    out.write(json ? `${JSON.stringify(result, null, 2)}\n` : `${describeBench(result)}\n`);
    if (settings.svg !== "" && !json) out.write(`\nmemory against depth: ${settings.svg}\n`);
    return result.rows.some(({ status }) => status.startsWith("failed")) ? 1 : 0;
  } catch (failure) {
    if (controller.signal.aborted) return 130;
    throw failure;
  } finally {
    for (const name of ["SIGINT", "SIGTERM"] as const) process.off(name, stop);
  }
}
