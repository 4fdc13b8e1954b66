// An estimate of a step's time on this machine: steps at the model's own width and work, with random weights and few blocks, are taken
// and timed, and what one more block and one more micro-batch cost is carried on along a line. In memory: what a disk takes comes on top.
import { UserError } from "../errors.js";
import { formatBytes } from "../format.js";
import { freeModel, placedParameters, randomModel } from "../model/model.js";
import { setThreads } from "../torch/device.js";
import { fullBatch } from "../train/full-batch.js";
import { describeNetwork, extensionOf } from "../network/description.js";
import { trainsOf } from "../train/phases.js";
import type { OptimizerStates } from "../step/optimizer-states.js";
import { networkOf, statesOf } from "../train/prepare-network.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { stepOptions } from "../train/step-options.js";
import { trainStep } from "../step/step.js";
import { atDepth, depthsOf } from "./depths.js";
import { planStep } from "./plan.js";
import { type Geometry, plannedPhase } from "./shadow-step.js";

/** Steps that are timed at one place, one where it takes longer than LONG_MS; one before them pays for what is touched for the first time. */
const MEASURED = 3;
const LONG_MS = 5000;

/** Places between which a step is timed: blocks and micro-batches, one value where the whole has no more. */
export interface Places {
  depths: number[];
  counts: number[];
}

/** Milliseconds of a step on the CPU. */
export function stepMs(settings: TrainSettings, geometry: Geometry): number {
  const places = placesOf(settings, geometry);
  const inMemory: TrainSettings = { ...settings, parameters: "device", memory_limit: "", learning_rate: 0 };
  checkRoom(inMemory, geometry, places);
  setThreads(settings.threads);
  const times = places.depths.map((depth) => timesAt(inMemory, shallow(geometry, depth), places.counts));
  return extendedMs(times, places, {
    depth: geometry.architecture.layers.length,
    count: settings.gradient_accumulation_steps,
  });
}

/** One run of blocks between the ordinary ends and two, and one micro-batch and two; all blocks where none stands for others. */
export const placesOf = (settings: TrainSettings, { architecture }: Geometry): Places => ({
  depths: depthsOf(settings, architecture, 1),
  counts: settings.gradient_accumulation_steps > 2 ? [1, 2] : [settings.gradient_accumulation_steps],
});

/** From times by depth, then by micro-batches, to that of the whole: blocks pay for themselves and for each micro-batch. More never takes less, whatever a clock says. */
export function extendedMs(
  times: number[][],
  { depths, counts }: Places,
  whole: { depth: number; count: number },
): number {
  const along = ([from, to = from]: number[], places: number[], wanted: number): number =>
    from + (places.length < 2 ? 0 : (Math.max(0, to - from) * (wanted - places[0])) / (places[1] - places[0]));
  return along(
    times.map((some) => along(some, counts, whole.count)),
    depths,
    whole.depth,
  );
}

const shallow = (geometry: Geometry, depth: number): Geometry => ({
  ...geometry,
  architecture: atDepth(geometry.architecture, depth),
});

function checkRoom(settings: TrainSettings, geometry: Geometry, { depths, counts }: Places): void {
  const [depth, count] = [depths.at(-1) as number, counts.at(-1) as number];
  const needed = planStep({ ...settings, gradient_accumulation_steps: count }, shallow(geometry, depth)).terms
    .peakBytes;
  const available = process.availableMemory();
  if (needed <= available) return;
  throw new UserError(
    `calibrate: a step of the model's width with ${depth} blocks takes ${formatBytes(needed)}, and ${formatBytes(available)} are available. ` +
      "Leave calibrate out, or give less work.",
  );
}

/** The least time of a step of one and of two micro-batches. */
function timesAt(settings: TrainSettings, { architecture, dtypeOf }: Geometry, counts: number[]): number[] {
  const extended = extensionOf(describeNetwork(settings))(architecture);
  const stored = dtypeOf(placedParameters(architecture)[1]);
  const model = randomModel(extended, settings.seed, stored, settings.device);
  const phase = plannedPhase(settings);
  let states: OptimizerStates | null = null;
  try {
    const network = { ...networkOf(settings, model), trains: trainsOf(phase, settings, model) };
    const made = statesOf(settings, network);
    states = made;
    let step = 0;
    const taken = (count: number): number => {
      const batches = Array.from({ length: count }, (_, i) =>
        fullBatch(settings, architecture.vocabSize, settings.seed + i),
      );
      const started = performance.now();
      trainStep(network, made, batches, stepOptions(settings, phase, ++step));
      return performance.now() - started;
    };
    return counts.map((count) => {
      taken(count);
      const times = [taken(count)];
      while (times.length < MEASURED && Math.min(...times) < LONG_MS) times.push(taken(count));
      return Math.min(...times);
    });
  } finally {
    states?.free();
    freeModel(model);
  }
}
