// What a training step keeps of the forward pass, four ways over the same couplings and branch functions:
//   reversible  the streams of the last block and the bits a coupling drops; inputs are rebuilt block by block
//   checkpoint  the input streams of every block; a block is run again before it is differentiated
//   checkpoint-offload  the same, kept in host memory (on the CPU that is where they are)
//   store       every block's graph
// A unit is what a coupling passes at once: a block, or several blocks as one function.
// All four call the same `coupling.reverse`, so their gradients agree to the last bit wherever recomputation does.
import { backward, detach, leaf, takeGrad, withGrad } from "../torch/autograd.js";
import { free, isAlive, keep, scope } from "../torch/scope.js";
import { byteSize, device, dtype, type Tensor, to } from "../torch/tensor.js";
import { assert } from "../errors.js";
import type { Apply, Branch, Coupling, Known, Pass, Visit } from "./coupling.js";
import type { Solution } from "./fixed-point.js";
import type { StreamFormat } from "./streams.js";

/** A block with its weights bound; `context` is the micro-batch's own. */
export interface Block<Context> {
  evaluate(branch: Branch, x_TD: Tensor, context: Context, memory_TD?: Tensor): Tensor;
  /**
   * Values inside the branch's graph as last recorded that have losses of their own (router logits), and the gradients of
   * those losses. The caller frees both.
   */
  innerRoots?(branch: Branch, context: Context): { outputs: Tensor[]; gradients: Tensor[] };
}

interface Graph {
  x_TD: Tensor;
  memory_TD?: Tensor;
  y_TD: Tensor;
}

/** What a method keeps of a block: dropped bits (reversible), input streams (checkpoint; `host`: away), or graphs (store). */
interface Kept {
  bits?: Tensor;
  inputs?: Tensor[];
  host?: Tensor[];
  graphs?: Graph[];
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
  <Context>(block: Block<Context>, context: Context): Apply =>
  (branch, x_TD, memory_TD) =>
    scope(() => block.evaluate(branch, x_TD, context, memory_TD));

/** The streams behind a unit, checked; for the caller's scope. */
export function passForward<Context>(unit: number, block: Block<Context>, batch: BatchState<Context>, net: Net, wantBits = false): Known {
  const { coupling, format, firstLayer = 0 } = net;
  return scope(() => {
    const known = coupling.forward(batch.streams, applyTo(block, batch.context), format, passOf(unit, batch, net, wantBits));
    for (const stream of known.streams) format.check(stream, `block ${firstLayer + unit}`);
    return known;
  });
}

/** Runs a block with a graph kept per branch, in the order of evaluation. */
function runRecorded<Context>(
  unit: number,
  block: Block<Context>,
  batch: BatchState<Context>,
  streams: Tensor[],
  net: Net,
): { known: Known; graphs: Graph[] } {
  const { coupling, format } = net;
  const graphs: Graph[] = [];
  const apply: Apply = (branch, input_TD, memory) => {
    const graph: Graph = scope(() => {
      const [x_TD, memory_TD] = [leaf(input_TD), memory === undefined ? undefined : leaf(memory)];
      return { x_TD, memory_TD, y_TD: withGrad(() => block.evaluate(branch, x_TD, batch.context, memory_TD)) };
    });
    graphs.push(graph);
    return detach(graph.y_TD);
  };
  const known = scope(() => {
    const result = coupling.forward(streams, apply, format, passOf(unit, batch, net));
    for (const graph of graphs) tensorsOf(graph).forEach(keep);
    return result;
  });
  return { known, graphs };
}

const tensorsOf = ({ x_TD, memory_TD, y_TD }: Graph): Tensor[] => [x_TD, y_TD, ...(memory_TD === undefined ? [] : [memory_TD])];

function inputGradients(x_TD: Tensor, memory_TD: Tensor | undefined): { dx_TD: Tensor; dMemory_TD: Tensor | null } {
  const dx_TD = takeGrad(x_TD);
  assert(dx_TD !== null, "a branch does not depend on its input");
  return { dx_TD, dMemory_TD: memory_TD === undefined ? null : takeGrad(memory_TD) };
}

/** Backpropagates dy_TD, and losses inside the branch, to the leaves; frees the graph. */
function differentiate<Context>(block: Block<Context>, branch: Branch, context: Context, y_TD: Tensor, dy_TD: Tensor): void {
  scope(() => {
    const { outputs = [], gradients = [] } = block.innerRoots?.(branch, context) ?? {};
    backward([y_TD, ...outputs], [dy_TD, ...gradients]);
    free(...outputs);
  });
}

/** Differentiates recorded graphs from the last to the first, freeing each. */
const visitRecorded =
  <Context>(graphs: Graph[], block: Block<Context>, context: Context): Visit =>
  (branch, _x_TD, dy_TD) => {
    const graph = graphs.at(-1);
    assert(graph, "more branches were visited than recorded");
    differentiate(block, branch, context, graph.y_TD, dy_TD);
    const gradients = inputGradients(graph.x_TD, graph.memory_TD);
    graphs.pop();
    free(...tensorsOf(graph));
    return { y_TD: null, ...gradients };
  };

function reverseRecorded<Context>(unit: number, graphs: Graph[], block: Block<Context>, batch: BatchState<Context>, net: Net): void {
  const { coupling, format } = net;
  batch.streams = replace(batch.streams, []); // the last unit's outputs: only rebuilding needs them
  const visit = visitRecorded(graphs, block, batch.context);
  const { dStreams } = scope(() => coupling.reverse(batch.dStreams, visit, null, format, passOf(unit, batch, net)));
  batch.dStreams = replace(batch.dStreams, dStreams);
}

export const store: Method = {
  name: "store",
  holdsBlocks: true,
  forward: (unit, block, batch, net) => {
    const { known, graphs } = runRecorded(unit, block, batch, batch.streams, net);
    batch.streams = replace(batch.streams, known.streams);
    batch.kept[unit] = { graphs };
    for (const stream of batch.streams) net.format.check(stream, `block ${(net.firstLayer ?? 0) + unit}`);
  },
  backward: (unit, block, batch, net) => {
    reverseRecorded(unit, batch.kept[unit].graphs ?? [], block, batch, net);
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
    const { inputs = [], host = [] } = batch.kept[unit];
    scope(() => {
      const back = host.map((stream) => to(stream, dtype(stream), device(batch.dStreams[0])));
      const x = [...inputs, ...replace(host, back)];
      batch.kept[unit] = { inputs: x };
      const { known, graphs } = runRecorded(unit, block, batch, x, net);
      batch.kept[unit] = { graphs };
      free(...x, ...known.streams);
      reverseRecorded(unit, graphs, block, batch, net);
    });
  },
});

export const checkpoint = checkpointing("checkpoint");
export const checkpointOffload = checkpointing("checkpoint-offload");

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
    const { coupling, format } = net;
    const { bits: stored } = batch.kept[unit];
    const visit: Visit = (branch, input_TD, dy_TD, memory) =>
      scope(() => {
        assert(input_TD !== null && memory !== null, "a reversible block is visited without its inputs");
        const [x_TD, memory_TD] = [leaf(input_TD), memory === undefined ? undefined : leaf(memory)];
        // A scope of its own, so that what autograd does not keep is freed before the way back and what it keeps along it.
        const y_TD = scope(() => withGrad(() => block.evaluate(branch, x_TD, batch.context, memory_TD)));
        differentiate(block, branch, batch.context, y_TD, dy_TD);
        return { y_TD: detach(y_TD), ...inputGradients(x_TD, memory_TD) };
      });
    const { dStreams, streams } = scope(() => {
      const bits = stored === undefined ? null : to(stored, dtype(stored), device(batch.streams[0]));
      const known = { streams: batch.streams, bits, apply: applyTo(block, batch.context) };
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
  const kept = batch.kept.flatMap(({ bits, inputs = [], host = [], graphs = [] }) => [
    ...(bits === undefined ? [] : [bits]),
    ...inputs,
    ...host,
    ...graphs.flatMap(tensorsOf),
  ]);
  for (const tensor of [...batch.streams, ...batch.dStreams, ...kept]) if (isAlive(tensor)) free(tensor);
  batch.streams = [];
  batch.dStreams = [];
  batch.kept = [];
}
