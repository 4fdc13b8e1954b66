// Of the ways that fit, the one for what a person wants most.
import type { Goal } from "../settings.js";
import type { Way } from "./ways.js";

type Pick = (ways: readonly Way[]) => Way;

const least =
  (of: (way: Way) => number): Pick =>
  (ways) =>
    ways.reduce((best, way) => (of(way) < of(best) ? way : best));

const PICKS: Readonly<Record<Goal, Pick>> = {
  // As `findWays` puts them.
  balanced: (ways) => ways[0],
  quality: (ways) => {
    const exact = ways.filter(({ quality }) => quality === "");
    return exact.length > 0 ? least(({ seconds }) => seconds)(exact) : ways[0];
  },
  speed: least(({ seconds }) => seconds),
  memory: least(({ plan }) => plan.placed.deviceBytes),
};

/** `ways` holds at least one. */
export const wayFor = (goal: Goal, ways: readonly Way[]): Way => PICKS[goal](ways);
