// What a training step keeps of the forward pass, four ways over the same couplings and branch functions:
//   reversible  the streams of the last block and the bits a coupling drops; inputs are rebuilt block by block
//   checkpoint  the input streams of every block; a block is run again before it is differentiated
//   checkpoint-offload  the same, kept in host memory (on the CPU that is where they are)
//   store       every block's graph
// All four call the same `coupling.reverse`, so their gradients agree to the last bit wherever recomputation does.
import { backward, detach, leaf, takeGrad, withGrad } from "../torch/autograd.js";
import { free, isAlive, keep, scope } from "../torch/scope.js";
import { byteSize, device, dtype, type Tensor, to } from "../torch/tensor.js";
import { assert } from "../errors.js";
import type { Apply, Branch, Coupling, Known, Visit } from "./coupling.js";
import type { StreamFormat } from "./streams.js";

/** A block with its weights bound; `context` is the micro-batch's own. */
export interface Block<Context> {
  evaluate(branch: Branch, x_TD: Tensor, context: Context): Tensor;
}

interface Graph {
  x_TD: Tensor;
  y_TD: Tensor;
}

/** What a method keeps of a block: dropped bits (reversible), input streams (checkpoint; `host`: away), or graphs (store). */
interface Kept {
  bits?: Tensor;
  inputs?: Tensor[];
  host?: Tensor[];
  graphs?: Graph[];
}

/** One micro-batch on its way through the stack. Owns its tensors; `freeBatch` releases what is left. */
export interface BatchState<Context> {
  context: Context;
  streams: Tensor[];
  dStreams: Tensor[];
  /** Per block, whatever the method keeps. */
  kept: Kept[];
}

export interface Method {
  readonly name: "reversible" | "checkpoint" | "checkpoint-offload" | "store";
  /** Whether blocks stay open from their forward pass to their backward pass, because graphs hold their weights. */
  readonly holdsBlocks: boolean;
  forward<Context>(layer: number, block: Block<Context>, batch: BatchState<Context>, net: Net): void;
  backward<Context>(layer: number, block: Block<Context>, batch: BatchState<Context>, net: Net): void;
}

export interface Net {
  coupling: Coupling;
  format: StreamFormat;
}

// The streams of a batch are owned by nobody but the batch: they are kept out of scopes and freed when replaced.
function replace(old: Tensor[], next: Tensor[]): Tensor[] {
  for (const tensor of next) keep(tensor);
  for (const tensor of old) if (!next.includes(tensor) && isAlive(tensor)) free(tensor);
  return next;
}

function runForward<Context>(
  layer: number,
  block: Block<Context>,
  batch: BatchState<Context>,
  { coupling, format }: Net,
  wantBits: boolean,
): Known {
  return scope(() => {
    const known = coupling.forward(
      batch.streams,
      (branch, x_TD) => scope(() => block.evaluate(branch, x_TD, batch.context)),
      format,
      wantBits,
    );
    for (const stream of known.streams) format.check(stream, `block ${layer}`);
    return known;
  });
}

/** Runs a block with a graph kept per branch, in the order of evaluation. */
function runRecorded<Context>(
  block: Block<Context>,
  context: Context,
  streams: Tensor[],
  { coupling, format }: Net,
): { known: Known; graphs: Graph[] } {
  const graphs: Graph[] = [];
  const apply: Apply = (branch, input_TD) => {
    const graph = scope(() => {
      const x_TD = leaf(input_TD);
      return { x_TD, y_TD: withGrad(() => block.evaluate(branch, x_TD, context)) };
    });
    graphs.push(graph);
    return detach(graph.y_TD);
  };
  const known = scope(() => {
    const result = coupling.forward(streams, apply, format, false);
    for (const graph of graphs) [graph.x_TD, graph.y_TD].forEach(keep);
    return result;
  });
  return { known, graphs };
}

/** Differentiates recorded graphs from the last to the first, freeing each. */
const visitRecorded =
  (graphs: Graph[]): Visit =>
  (_branch, _x_TD, dy_TD) => {
    const graph = graphs.at(-1);
    assert(graph, "more branches were visited than recorded");
    backward([graph.y_TD], [dy_TD]);
    const dx_TD = takeGrad(graph.x_TD);
    assert(dx_TD !== null, "a branch does not depend on its input");
    graphs.pop();
    free(graph.x_TD, graph.y_TD);
    return { y_TD: null, dx_TD };
  };

function reverseRecorded<Context>(graphs: Graph[], batch: BatchState<Context>, { coupling, format }: Net): void {
  batch.streams = replace(batch.streams, []); // the last block's outputs: only rebuilding needs them
  const { dStreams } = scope(() => coupling.reverse(batch.dStreams, visitRecorded(graphs), null, format));
  batch.dStreams = replace(batch.dStreams, dStreams);
}

export const store: Method = {
  name: "store",
  holdsBlocks: true,
  forward: (layer, block, batch, net) => {
    const { known, graphs } = runRecorded(block, batch.context, batch.streams, net);
    batch.streams = replace(batch.streams, known.streams);
    batch.kept[layer] = { graphs };
    for (const stream of batch.streams) net.format.check(stream, `block ${layer}`);
  },
  backward: (layer, _block, batch, net) => {
    reverseRecorded(batch.kept[layer].graphs ?? [], batch, net);
  },
};

const checkpointing = (name: "checkpoint" | "checkpoint-offload"): Method => ({
  name,
  holdsBlocks: false,
  forward: (layer, block, batch, net) => {
    const { streams } = runForward(layer, block, batch, net, false);
    if (name === "checkpoint") batch.kept[layer] = { inputs: batch.streams };
    else
      batch.kept[layer] = {
        host: replace(
          batch.streams,
          batch.streams.map((stream) => to(stream, dtype(stream), "cpu")),
        ),
      };
    batch.streams = streams.map(keep);
  },
  backward: (layer, block, batch, net) => {
    const { inputs = [], host = [] } = batch.kept[layer];
    scope(() => {
      const back = host.map((stream) => to(stream, dtype(stream), device(batch.dStreams[0])));
      const x = [...inputs, ...replace(host, back)];
      batch.kept[layer] = { inputs: x };
      const { known, graphs } = runRecorded(block, batch.context, x, net);
      batch.kept[layer] = { graphs };
      free(...x, ...known.streams);
      reverseRecorded(graphs, batch, net);
    });
  },
});

export const checkpoint = checkpointing("checkpoint");
export const checkpointOffload = checkpointing("checkpoint-offload");

export const reversible: Method = {
  name: "reversible",
  holdsBlocks: false,
  forward: (layer, block, batch, net) => {
    const { streams, bits } = runForward(layer, block, batch, net, true);
    batch.streams = replace(batch.streams, streams);
    batch.kept[layer] = bits === null ? {} : { bits: keep(bits) };
  },
  backward: (layer, block, batch, { coupling, format }) => {
    const { bits = null } = batch.kept[layer];
    const visit: Visit = (branch, input_TD, dy_TD) =>
      scope(() => {
        assert(input_TD !== null, "a reversible block is visited without its input");
        const x_TD = leaf(input_TD);
        // A scope of its own, so that what autograd does not keep is freed before the way back and what it keeps along it.
        const y_TD = scope(() => withGrad(() => block.evaluate(branch, x_TD, batch.context)));
        backward([y_TD], [dy_TD]);
        const dx_TD = takeGrad(x_TD);
        assert(dx_TD !== null, "a branch does not depend on its input");
        return { y_TD: detach(y_TD), dx_TD };
      });
    const { dStreams, streams } = scope(() => coupling.reverse(batch.dStreams, visit, { streams: batch.streams, bits }, format));
    assert(streams !== null, "a reversible coupling did not rebuild its streams");
    batch.dStreams = replace(batch.dStreams, dStreams);
    batch.streams = replace(batch.streams, streams);
    batch.kept[layer] = {};
    if (bits !== null) free(bits);
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
  const kept = batch.kept.flatMap(({ bits, inputs = [], host = [], graphs = [] }) => [
    ...(bits === undefined ? [] : [bits]),
    ...inputs,
    ...host,
    ...graphs.flatMap(({ x_TD, y_TD }) => [x_TD, y_TD]),
  ]);
  for (const tensor of [...batch.streams, ...batch.dStreams, ...kept]) if (isAlive(tensor)) free(tensor);
  batch.streams = [];
  batch.dStreams = [];
  batch.kept = [];
}
