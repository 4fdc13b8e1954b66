// Losses over the vocabulary, and adding a product to what is wider, in one pass each (native/kernels/loss.h). All in place. Logits are bfloat16
// or float32, as the head's product leaves them; `factor` and `cap` say what becomes of them before they are measured (0: no cap). Figures of
// a row, float64 [N, 2]: its loss, and 1 where its label has the largest logit. Without a scale, logits stay; with one, they become `scale`
// times the gradient of the sum of losses.
import { type N, op, type T } from "./row.js";
import { nothing } from "./rules.js";

/** loss_n = logsumexp(y_n) - y_n[label_n] */
export const crossEntropy_ = op<(logits: T, labels: T, figures: T, factor: N, cap: N, scale: N | null) => void>(
  "revmoe::cross_entropy_(Tensor(a!) logits, Tensor labels, Tensor(b!) figures, float factor, float cap, float? scale) -> ()",
  nothing,
);
/** loss_n = weight KL(softmax(teacher_n) || softmax(y_n)); the scale is of the weighted loss. */
export const divergence_ = op<
  (z: T, factor: N, cap: N, teacher: T, teacherFactor: N, teacherCap: N, figures: T, weight: N, scale: N | null) => void
>(
  "revmoe::divergence_(Tensor(a!) logits, float factor, float cap, Tensor teacher, float teacher_factor, float teacher_cap, Tensor(b!) figures, float weight, float? scale) -> ()",
  nothing,
);
/** sum += x of a bfloat16 x, or sum = x where it is the first. */
export const accumulate_ = op<(sum: T, x: T, first: boolean) => void>(
  "revmoe::accumulate_(Tensor(a!) sum, Tensor x, bool first) -> ()",
  nothing,
);
