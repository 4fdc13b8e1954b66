// `revmoe plan`: what a training step of a model will take, by term, before anything is loaded. It chooses the largest
// work that fits a memory, or compares all methods. If nothing fits, it prints the smallest plan, and exits with code
// 2.
import { UserError } from "../../errors.js";
import { formatBytes, formatDuration, parseBytes } from "../../format.js";
import { beginPlan, layoutsFor, machineFor, stepAsData, waysAsData } from "../../library/plan.js";
import type { PLAN_ROWS } from "../../plan/settings.js";
import type { CommandInput } from "../command.js";
import { STORES } from "../../store/registry.js";
import { engineInfo, isCpu, setThreads } from "../../torch/device.js";
import { processBytes } from "../../torch/memory.js";
import { comparePlans } from "../../plan/compare.js";
import { compareTable, describePlan, trainFlags } from "../../plan/words.js";
import { checkDrawing, writeDrawing } from "../drawing/drawing.js";
import { layoutAsData, layoutsTable } from "../../plan/layouts/words.js";
import { planChart } from "../../plan/svg.js";
import { type Plan, planStep } from "../../plan/plan.js";
import { stepMs } from "../../plan/calibrate.js";
import { largestThatFits, waysToFit } from "../../plan/choose.js";
import { cardOf, type Machine } from "../../plan/ways/machine.js";
import { storedWeightBytes } from "../../plan/ways/space.js";
import { findWays, shorterThatFits, type Way } from "../../plan/ways/ways.js";
import { describeMachine, waysTable } from "../../plan/ways/words.js";
import { flagOf } from "../../settings/table.js";
import type { TrainSettings } from "../../train/settings/settings.js";

export async function run({ settings: asked, given, json, out, err }: CommandInput<typeof PLAN_ROWS>): Promise<number> {
  if (asked.svg !== "") checkDrawing(asked.svg);
  const onCard = asked.gpu !== "" && asked.largest ? { device: "cuda" } : {};
  const begun = await beginPlan(asked, given, err, onCard);
  const { settings, geometry, resolve } = begun;
  setThreads(settings.threads);
  const ownBytes = processBytes();
  const print = (value: unknown, text: string): void =>
    void out.write(json ? `${JSON.stringify(value, null, 2)}\n` : `${text}\n`);
  if (asked.compare) {
    const compared = comparePlans(settings, geometry);
    const { gradient_accumulation_steps: steps, per_device_train_batch_size: rows, max_length: length } = settings;
    const work = `${asked.model}, ${steps} x ${rows} x ${length} tokens, ${settings.optimizer}`;
    if (asked.svg !== "") writeDrawing(asked.svg, planChart(compared, work));
    print(
      compared.map(({ name, plan }) => ({ name, ...stepAsData(plan) })),
      `${work}\n\n${compareTable(compared)}${asked.svg === "" ? "" : `\n\nbars: ${asked.svg}`}`,
    );
    return 0;
  }
  if (!asked.largest && asked.link === "" && ["fit", "gpu", "memory", "disk"].some((name) => given.has(name))) {
    const withoutCard = asked.gpu === "" && isCpu(settings.device) && engineInfo().cudaDevices > 0;
    const machine = machineFor(asked);
    const ways = findWays(resolve, geometry, machine, given);
    print(
      { machine, ways: waysAsData(begun, ways) },
      `on a machine with ${describeMachine(machine)}${withoutCard ? "; without its GPU, which --device cuda adds" : ""}\n${ways.length > 0 ? `\n${waysTable(ways, asked.model)}` : ""}`,
    );
    if (ways.length === 0)
      throw nothingFits(settings, machine, {
        model: asked.model,
        shorter: shorterThatFits(resolve, geometry, machine, given),
        weightBytes: storedWeightBytes(geometry),
      });
    return 0;
  }
  const limit = !asked.largest
    ? null
    : asked.gpu !== ""
      ? cardOf(asked.gpu).bytes
      : (parseBytes(asked.memory) as number);
  const choice = limit === null ? null : largestThatFits(settings, geometry, limit);
  const plan = choice?.plan ?? planStep(settings, geometry, undefined, asked.ranks);
  const estimate = asked.calibrate ? stepMs(plan.settings, geometry) : null;
  const notes: string[] = [];
  const machine = asked.link === "" ? null : machineFor(asked);
  const layouts = machine === null ? [] : layoutsFor(begun, { settings: asked, given }, machine);
  if (machine !== null)
    notes.push(
      `layouts of ${asked.ranks} ranks, each with ${describeMachine(machine)} and a link of ${asked.link}`,
      "",
      layoutsTable(layouts, asked.model),
    );
  if (estimate !== null) {
    const {
      gradient_accumulation_steps: steps,
      per_device_train_batch_size: rows,
      max_length: length,
      parameters,
    } = plan.settings;
    const rate = ((steps * rows * length) / estimate) * 1000;
    const disk =
      STORES[parameters].lies === "files" ? "; what does not fit in main memory is read from the disk besides" : "";
    notes.push(
      `at least about ${formatDuration(estimate)} a step on this machine, ${rate.toPrecision(3)} tokens/s, by steps with few blocks${disk}`,
    );
  }
  if (choice?.fits && limit !== null)
    notes.push(`the largest that fits ${formatBytes(limit)}: ${trainFlags({ ...plan.settings, model: asked.model })}`);
  const ways =
    choice === null || choice.fits || limit === null
      ? []
      : waysToFit(plan.settings, geometry, limit).map(
          ({ change, plan: way }) =>
            `${flagsOf({ ...rowsOf(plan.settings), ...change })} (${formatBytes(way.placed.deviceBytes)})`,
        );
  const value = {
    ...stepAsData(plan),
    fits: choice?.fits ?? null,
    processBytes: ownBytes,
    stepMs: estimate,
    flags: choice?.fits ? choice.flags : null,
    waysToFit: ways,
    ...(machine === null ? {} : { machine, layouts: layouts.map(layoutAsData) }),
  };
  print(value, [describePlan(plan, ownBytes), ...(notes.length > 0 ? [""] : []), ...notes].join("\n"));
  if (choice !== null && !choice.fits) throw tooLarge(limit as number, plan, ways);
  if (layouts.length > 0 && !layouts.some(({ fits }) => fits))
    throw new UserError(
      `ranks: no layout of ${asked.ranks} fits. Use more, fewer or shorter rows, smaller tiles, an optimizer with less state, or larger machines.`,
    );
  return 0;
}

/** Rows and length of the smallest work that was planned. */
const rowsOf = ({ max_length, per_device_train_batch_size }: TrainSettings): Partial<TrainSettings> => ({
  max_length,
  per_device_train_batch_size,
});

const flagsOf = (change: Partial<TrainSettings>): string =>
  Object.entries(change)
    .map(([name, value]) => `${flagOf(name)} ${value}`)
    .join(" ");

/** The error that follows the smallest plan. */
function tooLarge(limit: number, { settings, placed }: Plan, ways: string[]): UserError {
  const { per_device_train_batch_size: rows, max_length: length } = settings;
  return new UserError(
    `largest: nothing fits ${formatBytes(limit)}: ${rows} row of ${length} tokens takes ${formatBytes(placed.deviceBytes)}. ` +
      (ways.length > 0 ? `These would fit: ${ways.join("; ")}.` : "Plan without largest: it looks at all other ways."),
  );
}

function nothingFits(
  { max_length: length }: TrainSettings,
  machine: Machine,
  { model, shorter, weightBytes }: { model: string; shorter: Way | null; weightBytes: number },
): UserError {
  const remedy =
    shorter === null
      ? `In files the weights take ${formatBytes(weightBytes)}, and the result as much again. Use a smaller model, or a machine with more memory or disk.`
      : `Shorter rows would: ${trainFlags({ ...shorter.plan.settings, model })}.`;
  return new UserError(
    `no way to take a step of rows of ${length} tokens fits ${describeMachine(machine)}, in memory or from disk. ${remedy}`,
  );
}
