// One of several ranks, as a plan sees it: it sends and receives as in a run, on an engine where that is memory alone, and what others say is what it
// says itself. Of bytes that are sent it counts those of exchanges: those of sums and weights follow from the parameters (traffic.ts).
import { ALONE, type Collectives } from "../parallel/collectives.js";
import { directSums } from "../parallel/direct-sums.js";
import { rowExchange } from "../parallel/exchange.js";
import { orderedSums } from "../parallel/ordered-sums.js";
import { remoteReads } from "../parallel/remote-reads.js";
import { tagsOf } from "../parallel/tags.js";
import { byteSize, shape } from "../torch/tensor.js";

export function plannedRank(rank: number, world: number): Collectives {
  if (world === 1) return ALONE;
  let sent = 0;
  return {
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
    exchange: () => {
      const exchange = rowExchange(rank, tagsOf(1)(0));
      return (rows, among, counts, received) => {
        const away = counts.reduce((sum, count, i) => sum + (among[i] === rank ? 0 : count), 0);
        const [all] = shape(rows);
        sent += all === 0 ? 0 : (byteSize(rows) / all) * away;
        return exchange(rows, among, counts, received);
      };
    },
    sentBytes: () => sent,
  };
}
