// The two ends of a step outside the blocks: loss, final norm and head behind the last block, the embedding before the
// first. A head that is also the embedding is updated once, after both have added to its gradient.
import { BadValuesError } from "../errors.js";
import { type Parameters, trainedOf } from "../model/model.js";
import { scaleEmbedding } from "../model/scales.js";
import type { OpenWeights } from "../model/weights.js";
import { type HeadGradient, lossAndGradient, readLosses } from "../reversible/loss.js";
import type { Objective } from "../reversible/objectives.js";
import type { Watch } from "../reversible/streams.js";
import { backward, detach, leaf, takeGrad, withGrad } from "../torch/autograd.js";
import { during } from "../torch/span.js";
import { cast, fill_, indexAdd_ } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { fromArray, type Tensor } from "../torch/tensor.js";
import { EMBEDDING, HEAD } from "../store/store.js";
import type { BlockUpdates } from "./block-updates.js";
import { beginBackward, type MicroBatch } from "./micro-batch.js";
import { type Network, openHead, outerNames, type Segment, WEIGHTS_IN_USE } from "../network/network.js";

const DOUBT = "The learning rate may be too high, or the weights damaged.";

/**
 * Measures the loss of the step, with one objective for each micro-batch, and gives every micro-batch the gradient
 * behind segment `last`; `lossScale` is 1 / trained tokens. Updates final norm and head where they are trained, once
 * the streams are known to be sound. `measured` may be called when `updates` have finished; `tied` is the gradient of a
 * head that is also the embedding, so far.
 */
export function headAndLoss(
  network: Network,
  last: Segment,
  microBatches: MicroBatch[],
  updates: BlockUpdates,
  { objectives, lossScale, watch }: { objectives: Objective[]; lossScale: number; watch: Watch },
): { measured: () => { loss: number; accuracy: number }; tied: Parameters | null } {
  const { norm, head, tied } = outerNames(network);
  const { outer } = network.model;
  const gradients = updates.begin(
    HEAD,
    trainedOf({ [norm.name]: outer[norm.name], [head.name]: outer[head.name] }, -1, network.trains),
    (name) => name === head.name,
  );
  const dHead = head.name in gradients ? { sum_VD: gradients[head.name], isEmpty: updates.beginsSums } : null;
  const open = during(WEIGHTS_IN_USE, () => openHead(network));
  open.collectInto(gradients);
  const own = scope(() => {
    try {
      const losses = microBatches.map((microBatch, i) =>
        lossOf(network, last, microBatch, { open, objective: objectives[i], dHead, lossScale }),
      );
      if (dHead?.isEmpty) fill_(dHead.sum_VD, 0);
      return readLosses(losses);
    } finally {
      open.close();
    }
  });
  watch.look();
  const later = tied && dHead !== null;
  const names = Object.keys(gradients).filter((name) => !later || name !== head.name);
  let [total, right] = [0, 0];
  updates.apply(HEAD, outer, { whole: gradients, rows: null }, names, () => {
    for (const losses of updates.gather(own).flat()) {
      total += losses.total;
      right += losses.right;
    }
    if (!Number.isFinite(total)) throw new BadValuesError("the loss is not a finite number.", DOUBT);
  });
  if (later) updates.pause(HEAD, { [head.name]: dHead.sum_VD });
  return {
    measured: () => ({ loss: total * lossScale, accuracy: right * lossScale }),
    tied: later ? gradients : null,
  };
}

interface Head {
  open: OpenWeights;
  objective: Objective;
  /** Null where the head is not trained. */
  dHead: HeadGradient | null;
  lossScale: number;
}

/** Loss of one micro-batch, as sums for `readLosses`; gives it its gradient. */
function lossOf(
  network: Network,
  { coupling, format }: Segment,
  microBatch: MicroBatch,
  { open, objective, dHead, lossScale }: Head,
): Tensor {
  const { model, computeDtype, lossTileTokens } = network;
  const { norm, head } = outerNames(network);
  return during("loss", () =>
    scope(() => {
      const x_TD = leaf(coupling.end(microBatch.parts[microBatch.parts.length - 1].streams, format));
      const normed_TD = withGrad(() => model.architecture.finalNorm(open.get(norm.name), x_TD, computeDtype));
      const { dHidden_TD, sums_2 } = lossAndGradient(
        {
          hidden_TD: detach(normed_TD),
          head_VD: detach(open.get(head.name)),
          objective,
          tileTokens: lossTileTokens,
          scales: model.architecture.scales,
        },
        lossScale,
        dHead,
      );
      backward([normed_TD], [dHidden_TD]);
      beginBackward(microBatch, takeGrad(x_TD) as Tensor);
      return sums_2;
    }),
  );
}

/**
 * Adds the gradients in front of the first block to the embedding's rows and updates it, if it is trained; `tied` is
 * from `headAndLoss`.
 */
export function embeddingGradient(
  network: Network,
  microBatches: MicroBatch[],
  updates: BlockUpdates,
  tied: Parameters | null,
): void {
  const { name } = outerNames(network).embedding;
  const parameters = trainedOf({ [name]: network.model.outer[name] }, -1, network.trains);
  if (!(name in parameters)) return;
  const gradients = tied ?? updates.begin(EMBEDDING, parameters);
  if (tied !== null) updates.resume(EMBEDDING, { [name]: tied[name] });
  for (const { batch, dHidden_TD } of microBatches) {
    during("embedding's gradient", () =>
      scope(() => {
        const indices_T = fromArray(batch.tokens, [batch.tokens.length], "int64", network.device);
        const dEmbedded_TD = scaleEmbedding(network.model.architecture.scales, cast(dHidden_TD as Tensor, "float32"));
        return indexAdd_(gradients[name], 0, indices_T, dEmbedded_TD);
      }),
    );
  }
  updates.apply(EMBEDDING, parameters, { whole: gradients, rows: null }, [name]);
}
