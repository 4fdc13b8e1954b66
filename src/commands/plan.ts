// `revmoe plan`: what a training step of a model will take, by term, before anything is loaded. Chooses the largest work that
// fits a memory, or lays all methods side by side.

import { formatBytes, formatDuration, parseBytes } from "../format.js";
import { PLAN_TABLE, type PLAN_ROWS, trainSettingsOf } from "../plan/settings.js";
import type { Command } from "./command.js";
import { checkDrawing, writeDrawing } from "./drawing.js";

export const command: Command<typeof PLAN_ROWS> = {
  name: "plan",
  summary: "Say what a training step will take, by term, and what fits",
  usage: "revmoe plan --model FOLDER|config.json [--setting value ...]",
  example:
    "revmoe plan --model ./Qwen1.5-MoE-A2.7B/config.json --optimizer lomo --memory 40GiB\n" +
    "revmoe plan --model examples/tiny-moe --compare --svg plan.svg",
  settings: PLAN_TABLE,
  json: true,
  run: async ({ settings: asked, given, json, out, err }) => {
    if (asked.svg !== "") checkDrawing(asked.svg);
    const { resolveModel } = await import("../hub/resolve.js");
    const model = await resolveModel(asked.model, { out: err, preferCached: true });
    const settings = { ...trainSettingsOf(asked, given), model };
    const { readGeometry } = await import("../plan/geometry.js");
    const { setThreads } = await import("../torch/device.js");
    const { processBytes } = await import("../torch/memory.js");
    const geometry = readGeometry(settings);
    setThreads(settings.threads);
    const ownBytes = processBytes();
    const print = (value: unknown, text: string): void => void out.write(json ? `${JSON.stringify(value, null, 2)}\n` : `${text}\n`);
    if (asked.compare) {
      const { comparePlans } = await import("../plan/compare.js");
      const { compareTable } = await import("../plan/words.js");
      const { planChart } = await import("../plan/svg.js");
      const compared = comparePlans(settings, geometry);
      const { gradient_accumulation_steps: steps, per_device_train_batch_size: rows, max_length: length } = settings;
      const work = `${asked.model}, ${steps} x ${rows} x ${length} tokens, ${settings.optimizer}`;
      if (asked.svg !== "") writeDrawing(asked.svg, planChart(compared, work));
      print(
        compared.map(({ name, plan }) => ({ name, ...shown(plan) })),
        `${work}\n\n${compareTable(compared)}${asked.svg === "" ? "" : `\n\nbars: ${asked.svg}`}`,
      );
      return 0;
    }
    const { describePlan, trainFlags } = await import("../plan/words.js");
    const { planStep } = await import("../plan/plan.js");
    const limit = asked.memory === "" ? null : (parseBytes(asked.memory) as number);
    const { largestThatFits, waysToFit } = await import("../plan/choose.js");
    const choice = limit === null ? null : largestThatFits(settings, geometry, limit);
    const plan = choice?.plan ?? planStep(settings, geometry);
    const estimate = asked.calibrate ? (await import("../plan/calibrate.js")).stepMs(plan.settings, geometry) : null;
    const notes: string[] = [];
    if (estimate !== null) {
      const { gradient_accumulation_steps: steps, per_device_train_batch_size: rows, max_length: length, parameters } = plan.settings;
      const rate = ((steps * rows * length) / estimate) * 1000;
      const disk = parameters === "disk" ? "; what does not fit in main memory is read from the disk besides" : "";
      notes.push(
        `at least about ${formatDuration(estimate)} a step on this machine, ${rate.toPrecision(3)} tokens/s, by steps with few blocks${disk}`,
      );
    }
    let ways: string[] = [];
    if (choice !== null && limit !== null) {
      if (choice.fits) notes.push(`the largest that fits ${formatBytes(limit)}: ${trainFlags({ ...plan.settings, model: asked.model })}`);
      else {
        const { per_device_train_batch_size: rows, max_length: length } = plan.settings;
        const over = formatBytes(plan.placed.deviceBytes - limit);
        ways = waysToFit(plan.settings, geometry, limit).map(({ words, plan: way }) => `${words} (${formatBytes(way.placed.deviceBytes)})`);
        notes.push(
          `nothing fits ${formatBytes(limit)}: ${rows} row of ${length} tokens is ${over} too much. ` +
            (ways.length > 0
              ? `These would fit: ${ways.join("; ")}.`
              : "No optimizer, tile size or group of experts makes it fit: use a smaller model or more memory."),
        );
      }
    }
    const value = {
      ...shown(plan),
      fits: choice?.fits ?? null,
      processBytes: ownBytes,
      stepMs: estimate,
      flags: choice?.fits ? choice.flags : null,
      waysToFit: ways,
    };
    print(value, [describePlan(plan, ownBytes), ...(notes.length > 0 ? [""] : []), ...notes].join("\n"));
    return choice === null || choice.fits ? 0 : 1;
  },
};

/** A plan for machines: without the settings that were not asked for. */
function shown({ settings, terms, kept, moments, placed }: import("../plan/plan.js").Plan): Record<string, unknown> {
  const { method, coupling, optimizer, max_length, per_device_train_batch_size, gradient_accumulation_steps } = settings;
  return {
    method,
    coupling,
    optimizer,
    max_length,
    per_device_train_batch_size,
    gradient_accumulation_steps,
    terms,
    kept,
    moments,
    placed,
  };
}
