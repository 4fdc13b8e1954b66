// Held-out loss of a network: only forward passes, layer-major over groups of micro-batches; nothing is kept.
import type { Batch, BatchList } from "../data/batches.js";
import { type Context, freeContext, makeContext } from "../model/context.js";
import { freshRouting } from "../model/routing.js";
import type { OpenWeights } from "../model/weights.js";
import { agreed } from "../parallel/agreed.js";
import { ALONE, type Collectives, shareOf } from "../parallel/collectives.js";
import { sequenceGroup } from "../parallel/sequence-group.js";
import { type Losses, losses } from "../reversible/loss.js";
import { crossEntropy } from "../reversible/objectives.js";
import { type BatchState, freeBatch, passForward } from "../reversible/methods/method.js";
import { free, isAlive, keep, scope } from "../torch/scope.js";
import { abs, amax, narrow } from "../torch/ops.js";
import { item, type Tensor } from "../torch/tensor.js";
import { EMBEDDING, HEAD } from "../store/store.js";
import { type HeldBatch, heldBatch } from "./held-batch.js";
import {
  asOrdinary,
  embed,
  forwardOrder,
  type Network,
  OpenUnit,
  openHead,
  outerNames,
  segmentsOf,
} from "./network.js";

/** Micro-batches that pass a block before the next block is opened. */
const GROUP = 16;

/**
 * Measures all trained tokens of `batches`. Each of `ranks` takes a share of the batches; where `sequenceRanks` of them
 * hold a batch together, each takes a part of it. `seen` is called with the number of batches done.
 */
export function evaluate(
  network: Network,
  batches: BatchList,
  seen: (batches: number) => void = () => {},
  ranks: Collectives = ALONE,
  sequenceRanks = 1,
): {
  /** Mean cross-entropy. */
  loss: number;
  /** The share of trained tokens whose label has the largest logit. */
  accuracy: number;
} {
  let [total, right, tokens] = [0, 0, 0];
  const group = sequenceGroup(ranks, sequenceRanks);
  const [first, end] = shareOf(group.among, batches.length);
  let done = 0;
  const use = (from: number, to: number): (Losses & { tokens: number })[] => {
    const own: (Losses & { tokens: number })[] = [];
    const held = batches.slice(from, to).map((batch) => heldBatch(batch, group));
    overHidden(network, held, (hidden_TD, batch, open) => {
      own.push({ ...lossesOf(network, open, hidden_TD, batch.labels), tokens: batch.trainedTokens });
      seen(++done);
    });
    return own;
  };
  // Every rank makes equally many passes, the last ones perhaps with no batch: other ranks read its weights.
  const found: ReturnType<typeof use>[][] = [];
  for (let from = 0; from < Math.ceil(batches.length / group.among.world); from += GROUP) {
    const [start, stop] = [first + from, first + from + GROUP].map((at) => Math.min(at, end));
    found.push(agreed(ranks, () => inPass(network, () => group.together(() => use(start, stop)))));
  }
  for (let rank = 0; rank < ranks.world; rank++) {
    for (const sums of found.flatMap((group) => group[rank])) {
      total += sums.total;
      right += sums.right;
      tokens += sums.tokens;
    }
  }
  return { loss: total / tokens, accuracy: right / tokens };
}

/** Runs `work` as one pass of the store, from the embedding to the head. */
export const inPass = <T>(network: Network, work: () => T): T =>
  network.store.pass([EMBEDDING, ...forwardOrder(segmentsOf(network)), HEAD], work);

export const evaluateLoss = (...of: Parameters<typeof evaluate>): number => evaluate(...of).loss;

/** For each document of `batches`, in order, the sum of the cross-entropies of its trained tokens. */
export function documentLosses(
  network: Network,
  batches: BatchList,
  seen: (batches: number) => void = () => {},
): number[] {
  const found: number[] = [];
  let done = 0;
  const measure = (hidden_TD: Tensor, { segments, labels }: Batch, open: OpenWeights): void => {
    let start = 0;
    for (const length of segments) {
      const [from, end] = [start, (start += length)];
      found.push(
        scope(() => lossesOf(network, open, narrow(hidden_TD, 0, from, length), labels.subarray(from, end)).total),
      );
    }
    seen(++done);
  };
  for (let start = 0; start < batches.length; start += GROUP)
    inPass(network, () => overHidden(network, batches.slice(start, start + GROUP), measure));
  return found;
}

/** Calls `use` with the hidden states behind the last block, for each batch in order; frees all it makes. */
function overHidden<Held extends HeldBatch>(
  network: Network,
  group: Held[],
  use: (hidden_TD: Tensor, batch: Held, open: OpenWeights) => void,
): void {
  const hidden = hiddenStates(network, group);
  const open = openHead(network);
  try {
    for (const [i, hidden_TD] of hidden.entries()) scope(() => use(hidden_TD, group[i], open));
  } finally {
    open.close();
    free(...hidden);
  }
}

/** Hidden states behind the last block, before the final norm; the caller frees them. */
export function hiddenStates(
  network: Network,
  batches: HeldBatch[],
  look: (stream: Tensor) => void = () => {},
): Tensor[] {
  const embedded: Tensor[] = [];
  try {
    for (const { tokens } of batches) embedded.push(keep(embed(network, tokens)));
  } catch (failure) {
    free(...embedded);
    throw failure;
  }
  return throughBlocks(network, batches, embedded, look);
}

/** The same from the hidden states in front of the first block, which it frees. */
export function throughBlocks(
  network: Network,
  batches: HeldBatch[],
  hidden: Tensor[],
  look: (stream: Tensor) => void = () => {},
): Tensor[] {
  const { model, computeDtype, device } = network;
  const contexts = batches.map(({ positions, segments, spread }) =>
    makeContext(model.architecture, positions, segments, { computeDtype, device, routing: freshRouting, spread }),
  );
  let unit: OpenUnit | null = null;
  let states: BatchState<Context>[] = [];
  try {
    for (const segment of segmentsOf(network)) {
      const { coupling, format, units } = segment;
      states = contexts.map((context) => ({ context, streams: [], dStreams: [], kept: [] }));
      for (const [i, state] of states.entries())
        state.streams = scope(() => coupling.begin(hidden[i], format)).map(keep);
      // A stream can be the hidden state itself.
      for (const [i, hidden_TD] of hidden.splice(0).entries())
        if (!states[i].streams.includes(hidden_TD)) free(hidden_TD);
      for (const [i, layers] of units.entries()) {
        unit = new OpenUnit(network, layers);
        for (const state of states) {
          const before = state.streams;
          state.streams = passForward(i, unit, state, segment).streams.map(keep);
          free(...before);
          state.streams.forEach(look);
        }
        unit.close();
        unit = null;
      }
      for (const state of states) {
        const hidden_TD = keep(scope(() => coupling.end(state.streams, format)));
        hidden.push(hidden_TD);
        // A stream can be the hidden state itself, which the batch no longer owns.
        state.streams = state.streams.filter((stream) => stream !== hidden_TD);
        freeBatch(state);
      }
    }
    return hidden;
  } catch (failure) {
    free(...hidden.filter(isAlive));
    throw failure;
  } finally {
    unit?.close();
    states.forEach(freeBatch);
    contexts.forEach(freeContext);
  }
}

/** Largest absolute value in the ordinary network's hidden state in front of, between and behind blocks. */
export function largestHidden(network: Network, batch: Batch, ranks: Collectives = ALONE, sequenceRanks = 1): number {
  const group = sequenceGroup(ranks, sequenceRanks);
  const held = heldBatch(batch, group);
  let largest = 0;
  const look = (stream: Tensor): void => {
    largest = Math.max(
      largest,
      scope(() => item(amax(abs(stream)))),
    );
  };
  return inPass(network, () =>
    group.together(() => {
      scope(() => look(embed(network, held.tokens)));
      free(...hiddenStates(asOrdinary(network), [held], look));
      return Math.max(...group.each(largest));
    }),
  );
}

function lossesOf(network: Network, open: OpenWeights, hidden_TD: Tensor, labels_T: ArrayLike<number>): Losses {
  const { model, computeDtype, lossTileTokens } = network;
  const { norm, head } = outerNames(network);
  const normed_TD = model.architecture.finalNorm(open.get(norm.name), hidden_TD, computeDtype);
  return losses({
    hidden_TD: normed_TD,
    head_VD: open.get(head.name),
    objective: crossEntropy(labels_T),
    tileTokens: lossTileTokens,
    scales: model.architecture.scales,
  });
}
