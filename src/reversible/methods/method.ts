// What a training step keeps of the forward pass: what a method is, and what all methods do alike over the same couplings
// and branch functions. A unit is what a coupling passes at once: a block, or several blocks as one function.
// All methods call the same `coupling.reverse`, so their gradients agree to the last bit wherever recomputation does.
import { free, isAlive, keep, scope } from "../../torch/scope.js";
import { byteSize, type Tensor } from "../../torch/tensor.js";
import { assert } from "../../errors.js";
import type { Apply, Branch, Coupling, Known, Pass, Visit } from "../coupling.js";
import type { Solution } from "../fixed-point.js";
import { backwardStages, type BranchGraphs, evaluateStages, freeGraphs, type Stage } from "../stages.js";
import type { StreamFormat } from "../streams.js";

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
  /** See `Pass`. */
  each?: (value: number) => number[];
}

export interface Method<Name extends string = string> {
  readonly name: Name;
  /** Completes "what is kept of the forward pass: " in the help; left out where that of another says it. */
  readonly about?: string;
  /** Whether inputs are rebuilt from outputs, for which the coupling must be reversible. */
  readonly rebuilds: boolean;
  /** What is kept of each block beside streams and stored bits, in the words of a plan. */
  readonly kept: string;
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
export function passOf<Context>(
  unit: number,
  batch: BatchState<Context>,
  { coupling }: Net,
  wanted: Pick<Pass, "wantBits" | "overwrite"> = { wantBits: false },
): Pass {
  const report = (solution: Solution): void => batch.report?.(unit, solution);
  const { each } = batch;
  return { unit, ...wanted, report, each, ...(coupling.drawsSigns ? { signs_T1: batch.signs?.(unit) } : {}) };
}

// The streams of a batch are owned by nobody but the batch: they are kept out of scopes and freed when replaced.
export function replace(old: Tensor[], next: Tensor[]): Tensor[] {
  for (const tensor of next) keep(tensor);
  for (const tensor of old) if (!next.includes(tensor) && isAlive(tensor)) free(tensor);
  return next;
}

export const applyTo =
  <Context>(block: Block<Context>, context: Context, tileTokens: number): Apply =>
  (branch, x_TD, memory_TD) =>
    evaluateStages(block.stages(branch), { x_TD, context, tileTokens, memory_TD });

/** The streams behind a unit, checked; for the caller's scope, but for those of the batch that were overwritten. */
export function passForward<Context>(
  unit: number,
  block: Block<Context>,
  batch: BatchState<Context>,
  net: Net,
  wanted?: Pick<Pass, "wantBits" | "overwrite">,
): Known {
  const { coupling, format, firstLayer = 0, tileTokens = 0 } = net;
  const apply = applyTo(block, batch.context, tileTokens);
  return scope(() =>
    format.checked(`block ${firstLayer + unit}`, () =>
      coupling.forward(batch.streams, apply, format, passOf(unit, batch, net, wanted)),
    ),
  );
}

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

/** Backpropagates through the last of the recorded branches, and drops it. */
export function backwardLast(graphs: BranchGraphs[], dy_TD: Tensor): ReturnType<typeof backwardStages> {
  const last = graphs.at(-1);
  assert(last, "more branches were visited than recorded");
  const gradients = backwardStages(last, dy_TD);
  graphs.pop();
  return gradients;
}

/** The backward pass through a unit of which something else than its streams is kept. */
export function reverseKept<Context>(unit: number, batch: BatchState<Context>, net: Net, visit: Visit): void {
  const { coupling, format } = net;
  batch.streams = replace(batch.streams, []); // the last unit's outputs: only rebuilding needs them
  const { dStreams } = scope(() => coupling.reverse(batch.dStreams, visit, null, format, passOf(unit, batch, net)));
  batch.dStreams = replace(batch.dStreams, dStreams);
}
