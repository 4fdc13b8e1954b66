// Held-out loss of a network: forward passes alone, layer-major over groups of micro-batches, nothing kept.
import type { Batch } from "../data/batches.js";
import { makeContext } from "../model/context.js";
import { freshRouting } from "../model/routing.js";
import type { OpenWeights } from "../model/weights.js";
import { lossSum } from "../reversible/loss.js";
import { free, keep, scope } from "../torch/scope.js";
import type { Tensor } from "../torch/tensor.js";
import { beginStreams, type Network, OpenBlock, openHead, outerNames } from "./network.js";

/** Micro-batches that pass a block before the next block is opened. */
const GROUP = 16;

/** Mean cross-entropy over all trained tokens of `batches`. */
export function evaluateLoss(network: Network, batches: Batch[]): number {
  let total = 0;
  let tokens = 0;
  for (let start = 0; start < batches.length; start += GROUP) {
    const group = batches.slice(start, start + GROUP);
    const hidden = hiddenStates(network, group);
    const open = openHead(network);
    for (const [i, hidden_TD] of hidden.entries()) {
      total += scope(() => lossOf(network, open, hidden_TD, group[i]));
      tokens += group[i].trainedTokens;
    }
    open.close();
    free(...hidden);
  }
  return total / tokens;
}

/** Hidden states behind the last block, before the final norm; the caller frees them. */
export function hiddenStates(network: Network, batches: Batch[]): Tensor[] {
  const { model, coupling, format, computeDtype, device } = network;
  const contexts = batches.map(({ positions, segments }) =>
    makeContext(model.config, positions, segments, { computeDtype, device, routing: freshRouting }));
  let streams = batches.map(({ tokens }) => beginStreams(network, tokens).map(keep));
  for (let layer = 0; layer < model.config.numLayers; layer++) {
    const block = new OpenBlock(network, layer);
    streams = streams.map((before, i) => {
      const after = scope(() => coupling.forward(before, (branch, x_TD) => scope(() => block.evaluate(branch, x_TD, contexts[i])), format, false).streams);
      free(...before);
      return after.map(keep);
    });
    block.close();
  }
  for (const { cos_TC, sin_TC } of contexts) free(cos_TC, sin_TC);
  return streams.map((last) => {
    const hidden = keep(scope(() => coupling.end(last, format)));
    for (const stream of last) if (stream !== hidden) free(stream);
    return hidden;
  });
}

function lossOf(network: Network, open: OpenWeights, hidden_TD: Tensor, batch: Batch): number {
  const { model, computeDtype, lossTileTokens } = network;
  const { norm, head } = outerNames(network);
  const normed_TD = model.architecture.finalNorm(open.get(norm.name), hidden_TD, model.config, computeDtype);
  return lossSum({ hidden_TD: normed_TD, head_VD: open.get(head.name), labels_T: batch.labels, tileTokens: lossTileTokens });
}
