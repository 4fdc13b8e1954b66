// The layer-major passes of a step: every micro-batch passes block 1, then block 2, and so on. In the backward pass
// each block is rebuilt, differentiated for every micro-batch into its one gradient, updated and closed. Owns the
// blocks it opens until they are closed.
import type { Context } from "../model/context.js";
import { trainedInBlock } from "../model/model.js";
import { checkpoint } from "../reversible/methods/checkpoint.js";
import type { Method } from "../reversible/methods/method.js";
import { during } from "../torch/span.js";
import type { BlockUpdates } from "./block-updates.js";
import { enterBackward, enterNext, leaveBackward, type MicroBatch, type Report } from "./micro-batch.js";
import { type Network, OpenUnit, type Segment } from "../network/network.js";

export class BlockPass {
  readonly #net: Network;
  readonly #segments: Segment[];
  readonly #method: Method;
  readonly #reportOf: (segment: Segment) => Report;
  /** Open units by their first layer. A method that holds blocks keeps all of them here during the step. */
  readonly #open = new Map<number, OpenUnit>();

  constructor(net: Network, segments: Segment[], method: Method, reportOf: (segment: Segment) => Report) {
    this.#net = net;
    this.#segments = segments;
    this.#method = method;
    this.#reportOf = reportOf;
  }

  /** The method by which a segment's blocks keep what the backward pass needs. */
  methodOf({ ordinaryEnd }: Segment): Method {
    return ordinaryEnd && this.#method.rebuilds ? checkpoint : this.#method;
  }

  forward(microBatches: MicroBatch[]): void {
    for (const index of this.#segments.keys()) this.#forward(index, microBatches);
  }

  /** Takes each micro-batch's `dHidden_TD` from behind the last block to before the first; updates every block. */
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
    if (index > 0) {
      const before = this.#segments[index - 1];
      const { rebuilds } = this.methodOf(before);
      const to = { before, after: segment, report: this.#reportOf(segment), rebuilds };
      for (const microBatch of microBatches) enterNext(microBatch, to);
    }
    for (const [unit, layers] of segment.units.entries()) {
      const block = this.#unit(layers);
      during("streams", () => {
        this.#inTurn(block, microBatches, ({ parts }) => method.forward<Context>(unit, block, parts[index], segment));
      });
      if (!method.holdsBlocks) this.#leave(layers);
    }
  }

  #backward(index: number, microBatches: MicroBatch[], updates: BlockUpdates): void {
    const segment = this.#segments[index];
    const { units } = segment;
    const { model, trains } = this.#net;
    const method = this.methodOf(segment);
    for (const microBatch of microBatches) enterBackward(microBatch, index, segment);
    for (const [unit, layers] of [...units.entries()].reverse()) {
      const block = this.#unit(layers);
      const gradients = layers.map((layer) => updates.beginBlock(layer, trainedInBlock(model, layer, trains)));
      block.collectInto(gradients, updates.beginsSums);
      during("streams, backward", () => {
        this.#inTurn(block, microBatches, ({ parts }) => method.backward<Context>(unit, block, parts[index], segment));
      });
      block.finishGradients();
      this.#leave(layers);
      for (const [i, layer] of [...layers.entries()].reverse()) updates.apply(layer, model.blocks[layer], gradients[i]);
    }
    for (const microBatch of microBatches) leaveBackward(microBatch, index, segment);
  }

  /** Does `work` for all micro-batches; meanwhile serves what other ranks send to this rank's experts. */
  #inTurn(block: OpenUnit, microBatches: MicroBatch[], work: (microBatch: MicroBatch) => void): void {
    const { traveling } = this.#net;
    if (traveling) traveling.inTurn(microBatches, (layer) => block.experts(layer), work);
    else microBatches.forEach(work);
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
