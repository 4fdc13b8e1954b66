// How long a step takes in each layout of ranks that are alike, by the speed of one's machine and of its link. While a rank computes a block, what the
// next one needs and what the last one has left is on its way: a pass takes the longer of the two. Nothing hides the first of a pass, nor rows to experts, and where
// sums have an order the first ranks wait for the last. What this leaves out: the wait for one's own slower neighbours, and the time that a processor
// takes to send. The link's speed is what it carries, not what it is sold as.
import { hasExperts } from "../../model/architecture.js";
import { STORES } from "../../store/registry.js";
import type { TrainSettings } from "../../train/settings/settings.js";
import { type Plan, planStep } from "../plan.js";
import { type Geometry, plannedShares } from "../shadow-step.js";
import type { Machine } from "../ways/machine.js";
import { type StepParts, stepParts } from "../ways/speed.js";
import { possible, type Resolve, storedBytesOf } from "../ways/space.js";
import { type Layout, LAYOUTS, type LinkBytes, sentOf } from "./layouts.js";

interface LayoutTimes {
  /** Seconds of a rank's own work, of what its link carries, and of a step. */
  computing: number;
  exchange: number;
  seconds: number;
  /** Share of the exchange that is carried while the rank computes. */
  hidden: number;
}

export interface PlannedLayout extends LayoutTimes {
  layout: Layout;
  plan: Plan;
  fits: boolean;
}

/** Layouts that these settings can have, the fastest that fits first; `asked` are names of settings that stay. */
export function planLayouts(
  resolve: Resolve,
  geometry: Geometry,
  { machine, world, link, asked }: { machine: Machine; world: number; link: number; asked: ReadonlySet<string> },
): PlannedLayout[] {
  const settings = resolve({});
  const stays = (change: Layout["change"]): boolean =>
    Object.entries(change).every(
      ([name, value]) => !asked.has(name) || settings[name as keyof TrainSettings] === value,
    );
  const sent = sentOf(geometry, settings, world);
  const isPossible = ({ change, needsExperts }: Layout): boolean =>
    stays(change) && (!needsExperts || hasExperts(geometry.architecture));
  const found = LAYOUTS.filter(isPossible).flatMap((layout): PlannedLayout[] => {
    const changed = possible(() => resolve(layout.change as Parameters<Resolve>[0]));
    if (changed === null) return [];
    const plan = planStep(changed, geometry, undefined, world);
    const parts = stepParts(plan, geometry.architecture, ownBytes(changed, geometry, world), machine);
    const blocks = geometry.architecture.layers.length;
    const times = layoutTimes(parts, layout.linkBytes(sent, world), { blocks, behind: layout.behind(world), link });
    return [{ layout, plan, fits: isRoomFor(plan, machine), ...times }];
  });
  return found.sort((a, b) => Number(b.fits) - Number(a.fits) || a.seconds - b.seconds);
}

/** `link`: bytes a second; `behind`: see `Layout`. */
export function layoutTimes(
  { forward, backward, backwards, updating, moved }: StepParts,
  bytes: LinkBytes,
  { blocks, behind, link }: { blocks: number; behind: number; link: number },
): LayoutTimes {
  const { awaited = { forward: 0, backward: 0 } } = bytes;
  const passes = [
    { computing: forward, bytes: bytes.forward, awaited: awaited.forward, behind: 0 },
    ...new Array(backwards - 1).fill({
      computing: backward,
      bytes: bytes.measuring,
      awaited: awaited.backward,
      behind,
    }),
    { computing: backward + updating, bytes: bytes.updating, awaited: awaited.backward, behind },
  ];
  let [computing, exchange, seconds, seen] = [0, 0, 0, 0];
  for (const pass of passes) {
    const carried = pass.bytes / link;
    const bare = carried / blocks + pass.awaited / link;
    const longer = Math.max(pass.computing, carried);
    computing += pass.computing;
    exchange += carried + pass.awaited / link;
    seen += longer - pass.computing + bare;
    seconds += longer * (1 + pass.behind / blocks) + bare;
  }
  const hidden = exchange === 0 ? 1 : Math.max(0, 1 - seen / exchange);
  return { computing, exchange, seconds: Math.max(seconds, moved), hidden };
}

/** Of weights and state, those of the rank with most. */
function ownBytes(settings: TrainSettings, geometry: Geometry, world: number) {
  if (!STORES[settings.parameters].shared) return storedBytesOf(settings, geometry);
  const { held } = plannedShares(settings, geometry, world);
  return held.reduce((most, each) =>
    each.weightBytes + each.stateBytes > most.weightBytes + most.stateBytes ? each : most,
  );
}

function isRoomFor({ placed }: Plan, { card, memoryBytes, diskBytes }: Machine): boolean {
  return (
    placed.deviceBytes <= (card?.bytes ?? memoryBytes) &&
    (card === null || placed.hostBytes <= memoryBytes) &&
    placed.diskBytes <= diskBytes
  );
}
