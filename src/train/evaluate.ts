// Held-out loss of a network: forward passes alone, layer-major over groups of micro-batches, nothing kept.
import type { Batch } from "../data/batches.js";
import { type Context, makeContext } from "../model/context.js";
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
    try {
      for (const [i, hidden_TD] of hidden.entries()) {
        total += scope(() => lossOf(network, open, hidden_TD, group[i]));
        tokens += group[i].trainedTokens;
      }
    } finally {
      open.close();
      free(...hidden);
    }
  }
  return total / tokens;
}

/** Hidden states behind the last block, before the final norm; the caller frees them. */
export function hiddenStates(network: Network, batches: Batch[]): Tensor[] {
  const { model, coupling, format, computeDtype, device } = network;
  const contexts = batches.map(({ positions, segments }) =>
    makeContext(model.config, positions, segments, { computeDtype, device, routing: freshRouting }),
  );
  let block: OpenBlock | null = null;
  let streams: Tensor[][] = [];
  try {
    streams = batches.map(({ tokens }) => beginStreams(network, tokens).map(keep));
    for (let layer = 0; layer < model.config.numLayers; layer++) {
      block = new OpenBlock(network, layer);
      for (const [i, context] of contexts.entries()) streams[i] = passBlock(network, block, streams[i], context);
      block.close();
      block = null;
    }
    return streams.map((last) => keep(scope(() => coupling.end(last, format))));
  } finally {
    block?.close();
    for (const { cos_TC, sin_TC } of contexts) free(cos_TC, sin_TC);
    // The caller owns the hidden states; a hidden state can be a stream itself.
    if (coupling.numStreams > 1 || format.exact) free(...streams.flat());
  }
}

/** Replaces a batch's streams by those behind the block. */
function passBlock({ coupling, format }: Network, block: OpenBlock, before: Tensor[], context: Context): Tensor[] {
  const after = scope(() => {
    const { streams } = coupling.forward(before, (branch, x_TD) => scope(() => block.evaluate(branch, x_TD, context)), format, false);
    for (const stream of streams) format.check(stream, `block ${block.layer}`);
    return streams;
  });
  free(...before);
  return after.map(keep);
}

function lossOf(network: Network, open: OpenWeights, hidden_TD: Tensor, batch: Batch): number {
  const { model, computeDtype, lossTileTokens } = network;
  const { norm, head } = outerNames(network);
  const normed_TD = model.architecture.finalNorm(open.get(norm.name), hidden_TD, model.config, computeDtype);
  return lossSum({ hidden_TD: normed_TD, head_VD: open.get(head.name), labels_T: batch.labels, tileTokens: lossTileTokens });
}
