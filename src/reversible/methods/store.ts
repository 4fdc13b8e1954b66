// Keeps every block's graph: nothing is computed twice, and memory grows with depth. The other methods are compared
// with it.
import { scope } from "../../torch/scope.js";
import type { Apply } from "../coupling.js";
import { type BranchGraphs, recordStages } from "../stages.js";
import { backwardLast, type Method, passOf, replace, reverseKept } from "./method.js";

export const store: Method<"store"> = {
  name: "store",
  about: "everything (store)",
  rebuilds: false,
  kept: "graphs",
  holdsBlocks: true,
  forward: (unit, block, batch, net) => {
    const { coupling, format, firstLayer = 0, tileTokens = 0 } = net;
    const graphs: BranchGraphs[] = [];
    batch.kept[unit] = { graphs };
    const { streams } = scope(() => {
      const apply: Apply = (branch, x_TD, memory_TD) => {
        const recorded = recordStages(block.stages(branch), { x_TD, context: batch.context, tileTokens, memory_TD });
        graphs.push(recorded.graphs);
        return recorded.y_TD;
      };
      return format.checked(`block ${firstLayer + unit}`, () =>
        coupling.forward(batch.streams, apply, format, passOf(unit, batch, net)),
      );
    });
    batch.streams = replace(batch.streams, streams);
  },
  backward: (unit, _block, batch, net) => {
    const { graphs = [] } = batch.kept[unit];
    reverseKept(unit, batch, net, (_branch, _x_TD, dy_TD) => ({ y_TD: null, ...backwardLast(graphs, dy_TD) }));
  },
};
