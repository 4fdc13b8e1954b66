// An estimate of a step's time on this machine: steps at the model's own width and work, with random weights and few blocks, are taken
// and timed, and what one more block and one more micro-batch cost is carried on along a line. In memory: what a disk takes comes on top.
import { UserError } from "../errors.js";
import { formatBytes } from "../format.js";
import { freeModel, randomModel } from "../model/model.js";
import { setThreads } from "../torch/device.js";
import { fullBatch } from "../train/full-batch.js";
import { describeNetwork, extensionOf } from "../network/description.js";
import { trainsOf } from "../train/phases.js";
import type { OptimizerStates } from "../step/optimizer-states.js";
import { networkOf, statesOf } from "../train/prepare-network.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { stepOptions } from "../train/step-options.js";
import { trainStep } from "../step/step.js";
import { atDepth, planStep } from "./plan.js";
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
  const times = places.depths.map((depth) => timesAt(inMemory, atDepth(geometry, depth), places.counts));
  return extendedMs(times, places, { depth: geometry.config.numLayers, count: settings.gradient_accumulation_steps });
}

/** One unit between the ordinary ends and two, and one micro-batch and two; all blocks where they are not alike. */
export function placesOf(settings: TrainSettings, { config }: Geometry): Places {
  const {
    checkpoint_first_blocks: first,
    checkpoint_last_blocks: last,
    blocks_per_step: size,
    gradient_accumulation_steps: micro,
  } = settings;
  const least = first + last + size;
  const alike = settings.freeze.length === 0 && config.sparse.every((is) => is === config.sparse[0]);
  return {
    depths: alike && config.numLayers > least + size ? [least, least + size] : [config.numLayers],
    counts: micro > 2 ? [1, 2] : [micro],
  };
}

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

function checkRoom(settings: TrainSettings, geometry: Geometry, { depths, counts }: Places): void {
  const [depth, count] = [depths.at(-1) as number, counts.at(-1) as number];
  const needed = planStep({ ...settings, gradient_accumulation_steps: count }, atDepth(geometry, depth)).terms
    .peakBytes;
  const available = process.availableMemory();
  if (needed <= available) return;
  throw new UserError(
    `calibrate: a step of the model's width with ${depth} blocks takes ${formatBytes(needed)}, and ${formatBytes(available)} are available. ` +
      "Leave calibrate out, or give less work.",
  );
}

/** The least time of a step of one and of two micro-batches. */
function timesAt(settings: TrainSettings, { architecture, config, dtypeOf }: Geometry, counts: number[]): number[] {
  const extended = extensionOf(describeNetwork(settings))(architecture);
  const [spec] = architecture.blockParameters(config, 0);
  const stored = dtypeOf({ layer: 0, spec, prefix: architecture.blockPrefix(0) });
  const model = randomModel(extended, config, settings.seed, stored, settings.device);
  const phase = plannedPhase(settings);
  let states: OptimizerStates | null = null;
  try {
    const network = { ...networkOf(settings, model), trains: trainsOf(phase, settings, model) };
    const made = statesOf(settings, network);
    states = made;
    let step = 0;
    const taken = (count: number): number => {
      const batches = Array.from({ length: count }, (_, i) => fullBatch(settings, config.vocabSize, settings.seed + i));
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
