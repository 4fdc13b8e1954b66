// What a training step keeps of the forward pass, four ways over the same couplings and branch functions:
//   reversible  the streams of the last block and the bits a coupling drops; inputs are rebuilt block by block
//   checkpoint  the input streams of every block; a block is run again before it is differentiated
//   checkpoint-offload  the same, kept in host memory (on the CPU that is where they are)
//   store       every block's graph
// A unit is what a coupling passes at once: a block, or several blocks as one function.
// All four call the same `coupling.reverse`, so their gradients agree to the last bit wherever recomputation does.
import { free, isAlive, keep, scope } from "../torch/scope.js";
import { byteSize, device, dtype, type Tensor, to } from "../torch/tensor.js";
import { assert } from "../errors.js";
import type { Apply, Branch, Coupling, Known, Pass, Visit } from "./coupling.js";
import type { Solution } from "./fixed-point.js";
import {
  backwardStages,
  type BranchGraphs,
  differentiateStages,
  evaluateStages,
  freeGraphs,
  recordStages,
  type Stage,
} from "./stages.js";
import type { StreamFormat } from "./streams.js";

/** A block with its weights bound; a stage's `context` is the micro-batch's own. */
export interface Block<Context> {
  stages(branch: Branch): Stage<Context>[];
}

/** What a method keeps of a block: dropped bits (reversible), input streams (checkpoint; `host`: away), or graphs (store). */
interface Kept {
  bits?: Tensor;
  inputs?: Tensor[];
  host?: Tensor[];
  graphs?: BranchGraphs[];
}

/** One micro-batch on its way through units of one coupling. Owns its tensors; `freeBatch` releases what is left. */
export interface BatchState<Context> {
  context: Context;
  streams: Tensor[];
  dStreams: Tensor[];
  /** Per unit, whatever the method keeps. */
  kept: Kept[];
  /** +-1 per token [T, 1], the same at every call with one unit; for couplings that draw. */
  signs?: (unit: number) => Tensor;
  /** Told how the inverse of a unit went, where it is solved by iteration. */
  report?: (unit: number, solution: Solution) => void;
}

export interface Method {
  readonly name: "reversible" | "checkpoint" | "checkpoint-offload" | "store";
  /** Whether blocks stay open from their forward pass to their backward pass, because graphs hold their weights. */
  readonly holdsBlocks: boolean;
  forward<Context>(unit: number, block: Block<Context>, batch: BatchState<Context>, net: Net): void;
  backward<Context>(unit: number, block: Block<Context>, batch: BatchState<Context>, net: Net): void;
}

export interface Net {
  coupling: Coupling;
  format: StreamFormat;
  /** What unit 0 is called in errors; the others count on from it. */
  firstLayer?: number;
  /** Whether stored bits wait in host memory. */
  bitsOnHost?: boolean;
  /** Tokens that pass a tokenwise stage at once; 0 or nothing for all. */
  tileTokens?: number;
}

/** For the scope of the caller. */
function passOf<Context>(unit: number, batch: BatchState<Context>, { coupling }: Net, wantBits = false): Pass {
  const report = (solution: Solution): void => batch.report?.(unit, solution);
  return { unit, wantBits, report, ...(coupling.drawsSigns ? { signs_T1: batch.signs?.(unit) } : {}) };
}

// The streams of a batch are owned by nobody but the batch: they are kept out of scopes and freed when replaced.
function replace(old: Tensor[], next: Tensor[]): Tensor[] {
  for (const tensor of next) keep(tensor);
  for (const tensor of old) if (!next.includes(tensor) && isAlive(tensor)) free(tensor);
  return next;
}

const applyTo =
  <Context>(block: Block<Context>, context: Context, tileTokens: number): Apply =>
  (branch, x_TD, memory_TD) =>
    evaluateStages(block.stages(branch), { x_TD, context, tileTokens, memory_TD });

/** The streams behind a unit, checked; for the caller's scope. */
export function passForward<Context>(
  unit: number,
  block: Block<Context>,
  batch: BatchState<Context>,
  net: Net,
  wantBits = false,
): Known {
  const { coupling, format, firstLayer = 0, tileTokens = 0 } = net;
  return scope(() => {
    const known = coupling.forward(
      batch.streams,
      applyTo(block, batch.context, tileTokens),
      format,
      passOf(unit, batch, net, wantBits),
    );
    for (const stream of known.streams) format.check(stream, `block ${firstLayer + unit}`);
    return known;
  });
}

export const store: Method = {
  name: "store",
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
      return coupling.forward(batch.streams, apply, format, passOf(unit, batch, net));
    });
    batch.streams = replace(batch.streams, streams);
    for (const stream of streams) format.check(stream, `block ${firstLayer + unit}`);
  },
  backward: (unit, _block, batch, net) => {
    const { graphs = [] } = batch.kept[unit];
    reverseKept(unit, batch, net, (_branch, _x_TD, dy_TD) => ({ y_TD: null, ...backwardLast(graphs, dy_TD) }));
  },
};

const checkpointing = (name: "checkpoint" | "checkpoint-offload"): Method => ({
  name,
  holdsBlocks: false,
  forward: (unit, block, batch, net) => {
    const { streams } = passForward(unit, block, batch, net);
    const onHost = (): Tensor[] => batch.streams.map((stream) => to(stream, dtype(stream), "cpu"));
    batch.kept[unit] = name === "checkpoint" ? { inputs: batch.streams } : { host: replace(batch.streams, onHost()) };
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
      let last: { branch: Branch; x_TD: Tensor } | null = null;
      scope(() => {
        // The last branch is evaluated when its gradient is at hand. What stands here for its value goes into streams
        // behind the block, which nobody reads.
        const apply: Apply = (branch, x_TD, memory_TD) => {
          if (graphs.length === branches - 1) {
            assert(memory_TD === undefined, "the last branch of a block has no memory");
            last = { branch, x_TD };
            return x_TD;
          }
          const recorded = recordStages(block.stages(branch), { x_TD, context: batch.context, tileTokens, memory_TD });
          graphs.push(recorded.graphs);
          return recorded.y_TD;
        };
        coupling.forward(inputs, apply, format, passOf(unit, batch, net));
        return last;
      });
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

export const checkpoint = checkpointing("checkpoint");
export const checkpointOffload = checkpointing("checkpoint-offload");

function backwardLast(graphs: BranchGraphs[], dy_TD: Tensor): ReturnType<typeof backwardStages> {
  const last = graphs.at(-1);
  assert(last, "more branches were visited than recorded");
  const gradients = backwardStages(last, dy_TD);
  graphs.pop();
  return gradients;
}

/** The backward pass through a unit of which something else than its streams is kept. */
function reverseKept<Context>(unit: number, batch: BatchState<Context>, net: Net, visit: Visit): void {
  const { coupling, format } = net;
  batch.streams = replace(batch.streams, []); // the last unit's outputs: only rebuilding needs them
  const { dStreams } = scope(() => coupling.reverse(batch.dStreams, visit, null, format, passOf(unit, batch, net)));
  batch.dStreams = replace(batch.dStreams, dStreams);
}

export const reversible: Method = {
  name: "reversible",
  holdsBlocks: false,
  forward: (unit, block, batch, net) => {
    const { streams, bits } = passForward(unit, block, batch, net, true);
    batch.streams = replace(batch.streams, streams);
    if (bits === null) batch.kept[unit] = {};
    else if (!net.bitsOnHost) batch.kept[unit] = { bits: keep(bits) };
    else {
      batch.kept[unit] = { bits: keep(to(bits, dtype(bits), "cpu")) };
      free(bits);
    }
  },
  backward: (unit, block, batch, net) => {
    const { coupling, format, tileTokens = 0 } = net;
    const { bits: stored } = batch.kept[unit];
    const visit: Visit = (branch, x_TD, dy_TD, memory_TD) => {
      assert(x_TD !== null && memory_TD !== null, "a reversible block is visited without its inputs");
      return differentiateStages(block.stages(branch), { x_TD, context: batch.context, tileTokens, memory_TD }, dy_TD);
    };
    const { dStreams, streams } = scope(() => {
      const bits = stored === undefined ? null : to(stored, dtype(stored), device(batch.streams[0]));
      const known = { streams: batch.streams, bits, apply: applyTo(block, batch.context, tileTokens) };
      return coupling.reverse(batch.dStreams, visit, known, format, passOf(unit, batch, net));
    });
    assert(streams !== null, "a reversible coupling did not rebuild its streams");
    batch.dStreams = replace(batch.dStreams, dStreams);
    batch.streams = replace(batch.streams, streams);
    batch.kept[unit] = {};
    if (stored !== undefined) free(stored);
  },
};

export const METHODS = { reversible, checkpoint, "checkpoint-offload": checkpointOffload, store };

/** Bytes of the stored bits, the only part of the reversible method that grows with depth. */
export function bitBytes<Context>(batch: BatchState<Context>): number {
  return batch.kept.reduce((total, { bits }) => total + (bits === undefined ? 0 : byteSize(bits)), 0);
}

/** Bytes of the block inputs that wait in host memory. */
export function hostBytes<Context>(batch: BatchState<Context>): number {
  return batch.kept.flatMap(({ host = [] }) => host).reduce((total, stream) => total + byteSize(stream), 0);
}

/** Releases whatever a batch still owns; after a failed step too. */
export function freeBatch<Context>(batch: BatchState<Context>): void {
  const kept = batch.kept.flatMap(({ bits, inputs = [], host = [] }) => [
    ...(bits === undefined ? [] : [bits]),
    ...inputs,
    ...host,
  ]);
  batch.kept.flatMap(({ graphs = [] }) => graphs).forEach(freeGraphs);
  for (const tensor of [...batch.streams, ...batch.dStreams, ...kept]) if (isAlive(tensor)) free(tensor);
  batch.streams = [];
  batch.dStreams = [];
  batch.kept = [];
}
