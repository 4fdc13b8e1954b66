// Of the ways that fit, the one for what a person wants most.
import type { Goal } from "../settings.js";
import { least, type Way } from "./ways.js";

const secondsOf = ({ seconds }: Way): number => seconds;

const PICKS: Readonly<Record<Goal, (ways: readonly Way[], lean: () => Way) => Way>> = {
  // As `findWays` puts them.
  balanced: (ways) => ways[0],
  quality: (ways) => {
    const exact = ways.filter(({ quality }) => quality === "");
    return exact.length > 0 ? least(exact, secondsOf) : ways[0];
  },
  speed: (ways) => least(ways, secondsOf),
  memory: (_ways, lean) => lean(),
};

/** `ways` holds at least one; `lean` looks for the one with least memory, which takes a while. */
export const wayFor = (goal: Goal, ways: readonly Way[], lean: () => Way): Way => PICKS[goal](ways, lean);
