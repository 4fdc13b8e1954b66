// One of several ranks, as a plan sees it: it sends and receives as in a run, on an engine where that is memory alone, and what others say is what it
// says itself.
import { ALONE, type Collectives } from "../parallel/collectives.js";
import { directSums } from "../parallel/direct-sums.js";
import { rowExchange } from "../parallel/exchange.js";
import { orderedSums } from "../parallel/ordered-sums.js";
import { remoteReads } from "../parallel/remote-reads.js";
import { tagsOf } from "../parallel/tags.js";

export const plannedRank = (rank: number, world: number): Collectives =>
  world === 1
    ? ALONE
    : {
        ...ALONE,
        rank,
        world,
        gather: (value) => Array.from({ length: world }, () => value),
        // In order, more ranks look at a whole later, and hold nothing for it until then: two are enough, and few blocks tell of many.
        sums: (needed, order) => {
          if (order === "direct") return directSums({ rank, world }, 1, needed);
          return orderedSums({ rank: 0, world: 2 }, 1, needed && ((part, name) => needed(part, name, rank)));
        },
        reads: () => remoteReads(tagsOf(1)),
        exchange: () => rowExchange(rank, tagsOf(1)(0)),
      };
