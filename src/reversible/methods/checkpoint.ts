// Keeps the input streams of every block, and runs a block again before it is differentiated. checkpoint-offload keeps
// them in host memory; on the CPU both are the same.
import { assert } from "../../errors.js";
import { free, isAlive, keep, scope } from "../../torch/scope.js";
import { device, dtype, type Tensor, to } from "../../torch/tensor.js";
import type { Apply, Branch } from "../coupling.js";
import { type BranchGraphs, differentiateStages, recordStages } from "../stages.js";
import { backwardLast, type Method, passForward, passOf, replace, reverseKept } from "./method.js";

/** Thrown to end a coupling's forward pass early, at its last branch. */
class LastBranch {
  constructor(
    readonly branch: Branch,
    readonly x_TD: Tensor,
  ) {}
}

const checkpointing = <Name extends string>(name: Name, onHost: boolean, about?: string): Method<Name> => ({
  name,
  about,
  rebuilds: false,
  kept: "block inputs",
  holdsBlocks: false,
  forward: (unit, block, batch, net) => {
    const { streams } = passForward(unit, block, batch, net);
    const away = (): Tensor[] => batch.streams.map((stream) => to(stream, dtype(stream), "cpu"));
    batch.kept[unit] = onHost ? { host: replace(batch.streams, away()) } : { inputs: batch.streams };
    batch.streams = streams.map(keep);
  },
  backward: (unit, block, batch, net) => {
    const { coupling, format, tileTokens = 0 } = net;
    const { inputs: here = [], host = [] } = batch.kept[unit];
    const graphs: BranchGraphs[] = [];
    const branches = coupling.takesUnits ? 1 : 2;
    scope(() => {
      const back = host.map((stream) => to(stream, dtype(stream), device(batch.dStreams[0])));
      const inputs = [...here, ...replace(host, back)];
      batch.kept[unit] = { inputs, graphs };
      // The last branch is evaluated only when its gradient is known, so the coupling's forward pass ends where it asks
      // for it.
      let last: LastBranch | null = null;
      const apply: Apply = (branch, x_TD, memory_TD) => {
        if (graphs.length === branches - 1) {
          assert(memory_TD === undefined, "the last branch of a block has no memory");
          throw (last = new LastBranch(branch, keep(x_TD)));
        }
        const recorded = recordStages(block.stages(branch), { x_TD, context: batch.context, tileTokens, memory_TD });
        graphs.push(recorded.graphs);
        return recorded.y_TD;
      };
      try {
        scope(() => coupling.forward(inputs, apply, format, passOf(unit, batch, net)));
      } catch (end) {
        if (!(end instanceof LastBranch)) throw end;
        if (!inputs.includes(end.x_TD)) inputs.push(end.x_TD);
      }
      free(...inputs.filter((input) => input !== last?.x_TD));
      reverseKept(unit, batch, net, (_branch, _x_TD, dy_TD) => {
        if (last === null) return { y_TD: null, ...backwardLast(graphs, dy_TD) };
        const { branch, x_TD } = last;
        last = null;
        return {
          ...differentiateStages(block.stages(branch), { x_TD, context: batch.context, tileTokens }, dy_TD),
          y_TD: null,
        };
      });
      free(...inputs.filter(isAlive));
      batch.kept[unit] = {};
    });
  },
});

export const checkpoint = checkpointing(
  "checkpoint",
  false,
  "each block's input (checkpoint; checkpoint-offload: in host memory, on the cpu the same)",
);
export const checkpointOffload = checkpointing("checkpoint-offload", true);
