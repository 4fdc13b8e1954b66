// The ways in which a step of given work can be taken on a machine. Of ways of one quality the fastest is found; one that gives up something
// has to be faster for it. The first is the best that takes at most half as long again as the fastest. `leanWay` looks for least memory instead.
import { STORES } from "../../store/registry.js";
import type { TrainSettings } from "../../train/settings/settings.js";
import { withBlocksOnDevice } from "../choose.js";
import { type Plan, planStep } from "../plan.js";
import type { Geometry } from "../shadow-step.js";
import type { Machine } from "./machine.js";
import { type Options, optionsOf, type Resolve, type Space, spaceOf } from "./space.js";
import { stepSeconds } from "./speed.js";

export interface Way {
  plan: Plan;
  /** An estimate. */
  seconds: number;
  /** What it costs in quality, in words; nothing where it is ordinary fine-tuning with AdamW. */
  quality: string;
}

/** A way before it is known what it costs. */
type Planned = Omit<Way, "quality">;

/** How much faster a way has to be that gives up something, or that tiles and groups more, whose small cost is not estimated. */
const WORTH = 1.1;
/** How much longer than the fastest the first may take. */
const LONGER = 1.5;
/** How much more than the leanest a way may need that is looked at for memory. */
const LEAN = 1.1;
const SHORTEST = 128;

/** Those that fit; `asked` are names of settings that stay. Empty where nothing fits. */
export function findWays(resolve: Resolve, geometry: Geometry, machine: Machine, asked: ReadonlySet<string>): Way[] {
  const space = spaceOf(resolve, machine, asked);
  const found: Way[] = [];
  let fastest = Number.POSITIVE_INFINITY;
  for (const { changes, quality } of space.choices) {
    const ways = changes.flatMap((change) => {
      // The nearer weights lie, the faster: one store is enough.
      for (const store of space.stores) {
        const way = wayOf((more) => resolve({ ...change, ...store, ...more }), geometry, machine, space);
        if (way !== null) return [way];
      }
      return [];
    });
    if (ways.length === 0) continue;
    const way = least(ways, ({ seconds }) => seconds);
    if (way.seconds * WORTH < fastest) found.push({ ...way, quality });
    fastest = Math.min(fastest, way.seconds);
  }
  // The best that takes not much longer than the fastest, then by time.
  const best = found.find(({ seconds }) => seconds <= LONGER * fastest);
  return found.sort((one, other) => Number(other === best) - Number(one === best) || one.seconds - other.seconds);
}

/** The first way for the longest rows, halved as often as it takes, where rows as long as asked have none; null where none has. */
export function shorterThatFits(
  resolve: Resolve,
  geometry: Geometry,
  machine: Machine,
  asked: ReadonlySet<string>,
): Way | null {
  for (let max_length = resolve({}).max_length >> 1; max_length >= SHORTEST; max_length >>= 1) {
    const [way] = findWays((change) => resolve({ ...change, max_length }), geometry, machine, asked);
    if (way) return way;
  }
  return null;
}

/** Of ways that need at most a tenth more of the device's memory than the leanest, the fastest; null where none fits. */
export function leanWay(
  resolve: Resolve,
  geometry: Geometry,
  machine: Machine,
  asked: ReadonlySet<string>,
): Way | null {
  const space = spaceOf(resolve, machine, asked);
  const found: Way[] = [];
  for (const { changes, quality } of space.choices)
    for (const change of changes)
      for (const store of space.stores) {
        const options = optionsOf((more) => resolve({ ...change, ...store, ...more }), geometry, machine, space);
        // Fewest rows at a time take least.
        const rows = Math.min(...(options?.settings ?? []).map((each) => each.per_device_train_batch_size));
        for (const settings of options?.settings ?? []) {
          if (settings.per_device_train_batch_size > rows) continue;
          const way = timed(planStep(settings, geometry), options as Options, geometry, machine);
          if (options?.fits(way.plan)) found.push({ ...way, quality });
        }
      }
  if (found.length === 0) return null;
  const leanest = Math.min(...found.map(deviceBytesOf));
  return least(
    found.filter((way) => deviceBytesOf(way) <= LEAN * leanest),
    ({ seconds }) => seconds,
  );
}

const deviceBytesOf = ({ plan }: Way): number => plan.placed.deviceBytes;

/** The mildest change with which these settings fit, unless what a leaner one leaves free makes a step faster; null where none fits. */
function wayOf(resolve: Resolve, geometry: Geometry, machine: Machine, space: Space): Planned | null {
  const options = optionsOf(resolve, geometry, machine, space);
  if (options === null || options.settings.length === 0) return null;
  const { lies } = STORES[options.settings[0].parameters];
  const firstWithin = (most_s: number, of: readonly TrainSettings[]): Planned | null => {
    for (const each of of) {
      let plan = planStep(each, geometry);
      if (!options.fits(plan)) continue;
      if (lies === "memory" && space.stays({ blocks_on_device: 0 }))
        plan = withBlocksOnDevice(plan, geometry, options.most);
      const way = timed(plan, options, geometry, machine);
      if (way.seconds <= most_s) return way;
    }
    return null;
  };
  // Elsewhere, room that is left makes nothing faster.
  const gains = lies === "memory" || (lies === "files" && machine.card === null);
  if (!gains) return firstWithin(Number.POSITIVE_INFINITY, options.settings);
  const leanest = firstWithin(Number.POSITIVE_INFINITY, [...options.settings].reverse());
  return leanest && (firstWithin(WORTH * leanest.seconds, options.settings) ?? leanest);
}

const timed = (plan: Plan, { bytes }: Options, { architecture }: Geometry, machine: Machine): Planned => ({
  plan,
  seconds: stepSeconds(plan, architecture, bytes, machine),
});

/** The first of those with the least; there is at least one. */
export const least = <Each extends Planned>(ways: readonly Each[], of: (way: Each) => number): Each =>
  ways.reduce((best, way) => (of(way) < of(best) ? way : best));
