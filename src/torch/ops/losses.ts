// Losses over the vocabulary, and adding a product to a wider tensor, in one pass each (native/kernels/loss.h). All in
// place. Logits are bfloat16 or float32, as the head's product gives them; `factor` and `cap` are applied to them first
// (cap 0: none). The figures of a row, float64 [N, 2], are its loss, and 1 if its label has the largest logit. Without
// a scale, logits do not change; with one, they become `scale` times the gradient of the sum of losses.
import { type N, op, type T } from "./row.js";
import { nothing } from "./rules.js";

/** loss_n = logsumexp(y_n) - y_n[label_n] */
export const crossEntropy_ = op<(logits: T, labels: T, figures: T, factor: N, cap: N, scale: N | null) => void>(
  "revmoe::cross_entropy_(Tensor(a!) logits, Tensor labels, Tensor(b!) figures, float factor, float cap, float? scale) -> ()",
  nothing,
);
/** loss_n = weight KL(softmax(teacher_n) || softmax(y_n)); the scale multiplies the gradient of this weighted loss. */
export const divergence_ = op<
  (z: T, factor: N, cap: N, teacher: T, teacherFactor: N, teacherCap: N, figures: T, weight: N, scale: N | null) => void
>(
  "revmoe::divergence_(Tensor(a!) logits, float factor, float cap, Tensor teacher, float teacher_factor, float teacher_cap, Tensor(b!) figures, float weight, float? scale) -> ()",
  nothing,
);
/** sum += x for a bfloat16 x, or sum = x if it is the first. */
export const accumulate_ = op<(sum: T, x: T, first: boolean) => void>(
  "revmoe::accumulate_(Tensor(a!) sum, Tensor x, bool first) -> ()",
  nothing,
);
