// A micro-batch on its way through a step: its context, its routing, and its streams in every segment that it has
// reached. Owns all of these, and alone changes what it holds; `freeMicroBatch` releases what is left. What it holds
// can be saved, so that a second backward pass starts from the same place.
import { type Context, freeContext, makeContext } from "../model/context.js";
import { RecordedRouting } from "../model/routing.js";
import type { Solution } from "../reversible/fixed-point.js";
import { type BatchState, freeBatch } from "../reversible/methods/method.js";
import { detach } from "../torch/autograd.js";
import { cast } from "../torch/ops.js";
import { seedFor } from "../torch/random.js";
import { free, isAlive, keep, scope } from "../torch/scope.js";
import { byteSize, dtype, fromValues, type Tensor } from "../torch/tensor.js";
import { routerJitter } from "./router/jitter.js";
import type { HeldBatch } from "../network/held-batch.js";
import { embed, type Network, type Segment } from "../network/network.js";
import type { RouterLosses } from "./router/losses.js";

interface Held {
  batch: HeldBatch;
  routing: RecordedRouting;
  context: Context;
  /** One for each segment that it has reached. */
  parts: BatchState<Context>[];
  /** What `restore` goes back to. */
  saved: BatchState<Context>[];
  /** Gradient of the hidden state behind the segment that is differentiated next. */
  dHidden_TD: Tensor | null;
}

/** A micro-batch as others see it: they read it, and let a method pass its parts through blocks. */
export type MicroBatch = Readonly<Held>;

export type Report = (unit: number, solution: Solution) => void;

export interface Beginning {
  segment: Segment;
  step: number;
  seed: number;
  jitterNoise: number;
  observer: RouterLosses | null;
  report: Report;
}

/** The micro-batch in front of the first block; `index` is its place in the step. */
export function startMicroBatch(network: Network, batch: HeldBatch, index: number, beginning: Beginning): MicroBatch {
  const { model, computeDtype, device } = network;
  const { segment, step, seed, jitterNoise, observer, report } = beginning;
  return scope(() => {
    // First, because it throws when the embedding holds a value that is not finite; tables made before it would stay
    // alive.
    const streams = segment.coupling.begin(embed(network, batch.tokens), segment.format);
    const routing = new RecordedRouting(model.architecture.experts.count);
    const { positions, segments, spread } = batch;
    const of = { computeDtype, device, routing, spread };
    const context = makeContext(model.architecture, positions, segments, of);
    context.routerObserver = batch.isFill ? undefined : (observer ?? undefined);
    if (jitterNoise > 0) context.jitter = routerJitter(jitterNoise, seed, step, index);
    const signs = network.coupling.drawsSigns ? drawnSigns(batch, device, [seed, step, index]) : undefined;
    const part = {
      context,
      streams: streams.map(keep),
      dStreams: [],
      kept: [],
      signs,
      report,
      each: spread?.each,
    };
    return { batch, routing, context, parts: [part], saved: [], dHidden_TD: null };
  });
}

/**
 * Makes the streams in front of the next segment. Frees those behind the last one, unless its method rebuilds from
 * them.
 */
export function enterNext(
  microBatch: Held,
  { before, after, report, rebuilds }: { before: Segment; after: Segment; report: Report; rebuilds: boolean },
): void {
  const { parts, context } = microBatch;
  const part = parts[parts.length - 1];
  const { streams } = part;
  const begun = scope(() => after.coupling.begin(before.coupling.end(streams, before.format), after.format)).map(keep);
  const { signs, each } = parts[0];
  parts.push({ context, streams: begun, dStreams: [], kept: [], signs, report, each });
  if (rebuilds) return;
  free(...streams.filter((stream) => !begun.includes(stream)));
  part.streams = [];
}

/** Takes the gradient behind the last block; from now on the micro-batch owns it. */
export function beginBackward(microBatch: Held, dHidden_TD: Tensor): void {
  microBatch.dHidden_TD = keep(dHidden_TD);
}

/** Turns the gradient behind a segment into the gradients of its streams. */
export function enterBackward(microBatch: Held, index: number, { coupling }: Segment): void {
  const part = microBatch.parts[index];
  const dHidden_TD = microBatch.dHidden_TD as Tensor;
  part.dStreams = scope(() => coupling.endGradient(dHidden_TD)).map(keep);
  if (!part.dStreams.includes(dHidden_TD)) free(dHidden_TD);
  microBatch.dHidden_TD = null;
}

/** Turns the gradients of a segment's streams into the gradient in front of it. */
export function leaveBackward(microBatch: Held, index: number, { coupling }: Segment): void {
  const part = microBatch.parts[index];
  const dHidden_TD = keep(scope(() => coupling.beginGradient(part.dStreams)));
  microBatch.dHidden_TD = dHidden_TD;
  part.dStreams = part.dStreams.filter((stream) => stream !== dHidden_TD);
  // The first segment's rebuilt streams are compared with the true ones before they are freed.
  if (index > 0) freeBatch(part);
  else {
    free(...part.dStreams);
    part.dStreams = [];
  }
}

/**
 * +1 or -1 for each document and unit, one value per token held here. They follow from seed and place, so none are
 * kept.
 */
function drawnSigns(
  { segments, tokens, spread }: HeldBatch,
  device: string,
  place: number[],
): (unit: number) => Tensor {
  const signsOf = (unit: number): number[] =>
    segments.flatMap((length, document) =>
      new Array<number>(length).fill(seedFor(...place, unit, document) % 2 === 0 ? 1 : -1),
    );
  const { first = 0 } = spread ?? {};
  const ownOf = (unit: number): number[] => signsOf(unit).slice(first, first + tokens.length);
  return (unit) => fromValues(() => ownOf(unit), [tokens.length, 1], "float32", device);
}

/**
 * Saves what it holds now, without gradients. Streams are copied, since couplings rebuild in place; what a method keeps
 * is shared.
 */
export function save(microBatch: Held): void {
  scope(() => {
    const copies = microBatch.parts.map(({ streams }) =>
      streams.map((stream) => cast(stream, dtype(stream), false, true)),
    );
    const shared = (tensors: Tensor[] = []): Tensor[] => tensors.map((tensor) => keep(detach(tensor)));
    microBatch.saved = microBatch.parts.map((part, i) => ({
      ...part,
      streams: copies[i].map(keep),
      dStreams: [],
      kept: part.kept.map(({ bits, inputs, host }) => ({
        ...(bits && { bits: keep(detach(bits)) }),
        inputs: shared(inputs),
        host: shared(host),
      })),
    }));
  });
}

/** Frees what it holds and goes back to what was saved. Loss and gradients must be computed again. */
export function restore(microBatch: Held): void {
  microBatch.parts.forEach(freeBatch);
  if (microBatch.dHidden_TD !== null) free(microBatch.dHidden_TD);
  microBatch.dHidden_TD = null;
  microBatch.parts = microBatch.saved;
  microBatch.saved = [];
}

export function freeMicroBatch({ parts, saved, dHidden_TD, routing, context }: MicroBatch): void {
  [...parts, ...saved].forEach(freeBatch);
  if (dHidden_TD !== null && isAlive(dHidden_TD)) free(dHidden_TD);
  routing.free();
  freeContext(context);
}

export const streamBytesOf = (parts: BatchState<Context>[]): number =>
  parts.flatMap(({ streams }) => streams).reduce((sum, stream) => sum + byteSize(stream), 0);
