// The two ends of a step outside the blocks: loss, final norm and head behind the last one, the embedding before the
// first. A head that is the embedding is updated once, after both gave their gradient.
import { UserError } from "../errors.js";
import type { Parameters } from "../model/model.js";
import type { OpenWeights } from "../model/weights.js";
import { lossAndGradient } from "../reversible/loss.js";
import { backward, detach, leaf, takeGrad, withGrad } from "../torch/autograd.js";
import { cast, indexAdd_ } from "../torch/ops.js";
import { keep, scope } from "../torch/scope.js";
import { fromArray, type Tensor } from "../torch/tensor.js";
import { EMBEDDING, HEAD } from "../tiers/tier.js";
import type { BlockUpdates } from "./block-updates.js";
import type { MicroBatch } from "./micro-batch.js";
import { type Network, openHead, outerNames, type Segment } from "./network.js";

/**
 * The loss of the step, and of every micro-batch the gradient behind `last`; `lossScale` is 1 / trained tokens. Updates final
 * norm and head. Returned gradients are the embedding's so far, where it is the head.
 */
export function headAndLoss(
  network: Network,
  last: Segment,
  works: MicroBatch[],
  updates: BlockUpdates,
  { lossScale, step }: { lossScale: number; step: number },
): { loss: number; tied: Parameters | null } {
  const { norm, head, tied } = outerNames(network);
  const { outer } = network.model;
  const gradients = updates.begin({ [norm.name]: outer[norm.name], [head.name]: outer[head.name] });
  const open = openHead(network);
  open.collectInto(gradients);
  let total = 0;
  try {
    for (const work of works) total += lossOf(network, last, work, { open, dHead_VD: gradients[head.name], lossScale });
  } finally {
    open.close();
  }
  if (!Number.isFinite(total)) {
    throw new UserError(
      `step ${step}: the loss is not a finite number. The learning rate may be too high; nothing of this step was saved.`,
    );
  }
  if (tied) updates.apply(HEAD, { [norm.name]: outer[norm.name] }, gradients, [norm.name]);
  else updates.apply(HEAD, outer, gradients);
  return { loss: total * lossScale, tied: tied ? gradients : null };
}

interface Head {
  open: OpenWeights;
  dHead_VD: Tensor;
  lossScale: number;
}

function lossOf(network: Network, { coupling, format }: Segment, work: MicroBatch, { open, dHead_VD, lossScale }: Head): number {
  const { model, computeDtype, lossTileTokens } = network;
  const { norm, head } = outerNames(network);
  return scope(() => {
    const x_TD = leaf(coupling.end(work.parts[work.parts.length - 1].streams, format));
    const normed_TD = withGrad(() => model.architecture.finalNorm(open.get(norm.name), x_TD, model.config, computeDtype));
    const { total, dHidden_TD } = lossAndGradient(
      { hidden_TD: detach(normed_TD), head_VD: detach(open.get(head.name)), labels_T: work.batch.labels, tileTokens: lossTileTokens },
      lossScale,
      dHead_VD,
    );
    backward([normed_TD], [dHidden_TD]);
    work.dHidden_TD = keep(takeGrad(x_TD) as Tensor);
    return total;
  });
}

/** Adds the gradients in front of the first block to the embedding's rows, and updates it; `tied` is what the head left. */
export function embeddingGradient(network: Network, works: MicroBatch[], updates: BlockUpdates, tied: Parameters | null): void {
  const { name } = outerNames(network).embedding;
  const parameters = { [name]: network.model.outer[name] };
  const gradients = tied ?? updates.begin(parameters);
  for (const { batch, dHidden_TD } of works) {
    scope(() => {
      const indices_T = fromArray(batch.tokens, [batch.tokens.length], "int64", network.device);
      return indexAdd_(gradients[name], 0, indices_T, cast(dHidden_TD as Tensor, "float32"));
    });
  }
  updates.apply(EMBEDDING, parameters, gradients, [name]);
}
