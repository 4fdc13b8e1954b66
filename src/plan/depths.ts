// Which smaller depths stand for a deep model: two between which layers of the same kinds lie as between any others further on, so
// that what the second takes beside the first is what each further such run of layers takes.
import type { Architecture, Layer } from "../model/architecture.js";
import type { TrainSettings } from "../train/settings/settings.js";

type Division = Pick<
  TrainSettings,
  "checkpoint_first_blocks" | "checkpoint_last_blocks" | "blocks_per_step" | "freeze"
>;

/** Longest run of kinds that is looked for. */
const LONGEST_PERIOD = 16;

/** Two depths of the form of the whole, with `runs` runs of layers between the ends of the first; or the depth of the whole. */
export function depthsOf(settings: Division, { layers }: Architecture, runs: number): number[] {
  const { checkpoint_first_blocks: first, checkpoint_last_blocks: last, blocks_per_step: size } = settings;
  const whole = layers.length;
  // What is frozen may differ from block to block.
  if (settings.freeze.length > 0) return [whole];
  let best = [whole];
  for (let period = 1; period <= Math.min(LONGEST_PERIOD, whole); period++) {
    const run = (period * size) / greatestDivisor(period, size);
    const least = Math.max(first, leadOf(layers, period)) + last + runs * run;
    const depth = least + ((((whole - least) % run) + run) % run);
    if (depth + run < (best[1] ?? whole)) best = [depth, depth + run];
  }
  return best;
}

/** How many layers come before those whose kinds repeat with this period. */
function leadOf(layers: readonly Layer[], period: number): number {
  for (let i = layers.length - period - 1; i >= 0; i--) if (layers[i].kind !== layers[i + period].kind) return i + 1;
  return 0;
}

/** The same architecture with its first layers alone. */
export const atDepth = (architecture: Architecture, depth: number): Architecture => ({
  ...architecture,
  layers: architecture.layers.slice(0, depth),
});

const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b));
