// What a method is (what a training step keeps of the forward pass), and what all methods do alike over the same
// couplings and branch functions. A unit is what a coupling passes at once: a block, or several blocks as one function.
// All methods call the same `coupling.reverse`, so their gradients agree to the last bit wherever recomputation does.
import { free, isAlive, keep, scope } from "../../torch/scope.js";
import { byteSize, type Tensor } from "../../torch/tensor.js";
import { assert } from "../../errors.js";
import type { Apply, Branch, Coupling, Known, Pass, Visit } from "../coupling.js";
import type { Solution } from "../fixed-point.js";
import { backwardStages, type BranchGraphs, evaluateStages, freeGraphs, type Stage } from "../stages.js";
import type { StreamFormat } from "../streams.js";

/** A block with its weights; the `context` of its stages belongs to the micro-batch. */
export interface Block<Context> {
  stages(branch: Branch): Stage<Context>[];
}

/**
 * What a method keeps of a block: stored bits (reversible), input streams (checkpoint; `host`: in host memory), or
 * graphs (store).
 */
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
  /** What the method keeps, for each unit. */
  kept: Kept[];
  /** +-1 per token [T, 1], the same at every call with one unit; for couplings that draw signs. */
  signs?: (unit: number) => Tensor;
  /** Called with the outcome of a unit's inverse, where it is solved by iteration. */
  report?: (unit: number, solution: Solution) => void;
  /** See `each` of `Pass`. */
  each?: (value: number) => number[];
}

export interface Method<Name extends string = string> {
  readonly name: Name;
  /** Completes "what is kept of the forward pass: " in the help; left out where another method's text covers it. */
  readonly about?: string;
  /** Whether inputs are rebuilt from outputs; then the coupling must be reversible. */
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
  /** Number of unit 0 in errors; the other units count on from it. */
  firstLayer?: number;
  /** Whether stored bits wait in host memory. */
  bitsOnHost?: boolean;
  /** How many tokens pass a tokenwise stage at once; 0 or nothing: all. */
  tileTokens?: number;
}

/** Arguments of one pass through the coupling; their tensors belong to the caller's scope. */
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

// A batch owns its streams: they are kept out of scopes, and freed when replaced.
export function replace(old: Tensor[], next: Tensor[]): Tensor[] {
  for (const tensor of next) keep(tensor);
  for (const tensor of old) if (!next.includes(tensor) && isAlive(tensor)) free(tensor);
  return next;
}

export const applyTo =
  <Context>(block: Block<Context>, context: Context, tileTokens: number): Apply =>
  (branch, x_TD, memory_TD) =>
    evaluateStages(block.stages(branch), { x_TD, context, tileTokens, memory_TD });

/**
 * Passes a unit and checks the streams behind it. They belong to the caller's scope, unless they overwrite the batch's
 * streams.
 */
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

/** Bytes of the stored bits. They are the only part of the reversible method that grows with depth. */
export function bitBytes<Context>(batch: BatchState<Context>): number {
  return batch.kept.reduce((total, { bits }) => total + (bits === undefined ? 0 : byteSize(bits)), 0);
}

/** Bytes of the block inputs that wait in host memory. */
export function hostBytes<Context>(batch: BatchState<Context>): number {
  return batch.kept.flatMap(({ host = [] }) => host).reduce((total, stream) => total + byteSize(stream), 0);
}

/** Frees all that a batch still owns; also after a failed step. */
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

/** Backpropagates through the last recorded branch, and removes it. */
export function backwardLast(graphs: BranchGraphs[], dy_TD: Tensor): ReturnType<typeof backwardStages> {
  const last = graphs.at(-1);
  assert(last, "more branches were visited than recorded");
  const gradients = backwardStages(last, dy_TD);
  graphs.pop();
  return gradients;
}

/** The backward pass through a unit when streams are not rebuilt. */
export function reverseKept<Context>(unit: number, batch: BatchState<Context>, net: Net, visit: Visit): void {
  const { coupling, format } = net;
  batch.streams = replace(batch.streams, []); // the last unit's outputs: only rebuilding needs them
  const { dStreams } = scope(() => coupling.reverse(batch.dStreams, visit, null, format, passOf(unit, batch, net)));
  batch.dStreams = replace(batch.dStreams, dStreams);
}
