// The layer-major passes of a step: every micro-batch passes block 1, then block 2, ...; in the backward pass each block is
// rebuilt, differentiated for every micro-batch into its one gradient, updated and left. Owns the blocks it opens
// until they are left, or `close`.
import type { Context } from "../model/context.js";
import { trainedOf } from "../model/model.js";
import { checkpoint } from "../reversible/methods/checkpoint.js";
import { freeBatch, type Method } from "../reversible/methods/method.js";
import { during } from "../torch/span.js";
import { free, keep, scope } from "../torch/scope.js";
import type { Tensor } from "../torch/tensor.js";
import type { BlockUpdates } from "./block-updates.js";
import type { MicroBatch, Report } from "./micro-batch.js";
import { type Network, OpenUnit, type Segment } from "../network/network.js";

export class BlockPass {
  readonly #net: Network;
  readonly #segments: Segment[];
  readonly #method: Method;
  readonly #reportOf: (segment: Segment) => Report;
  /** Open units by their first layer; with a method that holds blocks, all of them during the step. */
  readonly #open = new Map<number, OpenUnit>();

  constructor(net: Network, segments: Segment[], method: Method, reportOf: (segment: Segment) => Report) {
    this.#net = net;
    this.#segments = segments;
    this.#method = method;
    this.#reportOf = reportOf;
  }

  /** What a segment's blocks keep of the forward pass. */
  methodOf({ ordinaryEnd }: Segment): Method {
    return ordinaryEnd && this.#method.rebuilds ? checkpoint : this.#method;
  }

  forward(microBatches: MicroBatch[]): void {
    for (const index of this.#segments.keys()) this.#forward(index, microBatches);
  }

  /** From each micro-batch's `dHidden_TD` behind the last block to that before the first; every block is updated. */
  backward(microBatches: MicroBatch[], updates: BlockUpdates): void {
    for (const index of [...this.#segments.keys()].reverse()) this.#backward(index, microBatches, updates);
  }

  close(): void {
    for (const unit of this.#open.values()) unit.close();
    this.#open.clear();
  }

  #forward(index: number, microBatches: MicroBatch[]): void {
    const segment = this.#segments[index];
    const method = this.methodOf(segment);
    if (index > 0) for (const microBatch of microBatches) this.#enter(index, microBatch);
    for (const [unit, layers] of segment.units.entries()) {
      const block = this.#unit(layers);
      during("streams", () => {
        for (const { parts } of microBatches) method.forward<Context>(unit, block, parts[index], segment);
      });
      if (!method.holdsBlocks) this.#leave(layers);
    }
  }

  /** From the streams behind one segment to those in front of the next; only rebuilding needs the former again. */
  #enter(index: number, { parts, context }: MicroBatch): void {
    const [before, after] = [this.#segments[index - 1], this.#segments[index]];
    const { streams } = parts[index - 1];
    const begun = scope(() => after.coupling.begin(before.coupling.end(streams, before.format), after.format)).map(
      keep,
    );
    parts.push({
      context,
      streams: begun,
      dStreams: [],
      kept: [],
      signs: parts[0].signs,
      report: this.#reportOf(after),
    });
    if (this.methodOf(before).rebuilds) return;
    free(...streams.filter((stream) => !begun.includes(stream)));
    parts[index - 1].streams = [];
  }

  #backward(index: number, microBatches: MicroBatch[], updates: BlockUpdates): void {
    const segment = this.#segments[index];
    const { coupling, units } = segment;
    const { model, trains } = this.#net;
    const method = this.methodOf(segment);
    for (const microBatch of microBatches) {
      const dHidden_TD = microBatch.dHidden_TD as Tensor;
      microBatch.parts[index].dStreams = scope(() => coupling.endGradient(dHidden_TD)).map(keep);
      if (!microBatch.parts[index].dStreams.includes(dHidden_TD)) free(dHidden_TD);
      microBatch.dHidden_TD = null;
    }
    for (const [unit, layers] of [...units.entries()].reverse()) {
      const block = this.#unit(layers);
      const gradients = layers.map((layer) => updates.beginBlock(trainedOf(model.blocks[layer], layer, trains)));
      block.collectInto(gradients);
      during("streams, backward", () => {
        for (const { parts } of microBatches) method.backward<Context>(unit, block, parts[index], segment);
      });
      this.#leave(layers);
      for (const [i, layer] of [...layers.entries()].reverse()) updates.apply(layer, model.blocks[layer], gradients[i]);
    }
    for (const microBatch of microBatches) {
      const part = microBatch.parts[index];
      const dHidden_TD = keep(scope(() => coupling.beginGradient(part.dStreams)));
      microBatch.dHidden_TD = dHidden_TD;
      part.dStreams = part.dStreams.filter((stream) => stream !== dHidden_TD);
      // The first segment's rebuilt streams are compared with the truth before they go.
      if (index > 0) freeBatch(part);
      else {
        free(...part.dStreams);
        part.dStreams = [];
      }
    }
  }

  #unit(layers: number[]): OpenUnit {
    const unit = this.#open.get(layers[0]) ?? new OpenUnit(this.#net, layers);
    this.#open.set(layers[0], unit);
    return unit;
  }

  #leave(layers: number[]): void {
    this.#open.get(layers[0])?.close();
    this.#open.delete(layers[0]);
  }
}
