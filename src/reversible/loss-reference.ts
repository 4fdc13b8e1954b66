// The losses of objectives.ts made of ATen's operators: for float64, for a GPU without kernels, and to test the
// kernels. Value and gradient are in closed form, and computed in float32 or float64; the gradient overwrites the
// logits. A bfloat16 logit takes 4 more bytes; with a teacher, a logit of either type takes 8 more.
import {
  addScalar_,
  amax,
  cast,
  copy_,
  exp_,
  fill_,
  gather,
  log,
  logsumexp,
  mul_,
  mulScalar,
  mulScalar_,
  narrow,
  reciprocal,
  scatterAdd_,
  sign_,
  sub,
  sub_,
  sumDim,
  unsqueeze,
} from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { device, dtype, full, shape, type Tensor } from "../torch/tensor.js";
import { type LogitScales, scaleLogits_, slopeOfLogits, throughLogits_, type Tile } from "./logits.js";

/** loss_n = logsumexp(y_n) - y_n[label_n] */
export function crossEntropyReference({ logits_NV, scales, figures_N2 }: Tile, labels_N: Tensor, scale: number | null) {
  scope(() => {
    const y_NV = scaled(logits_NV, scales);
    const slope = scale === null ? null : slopeOfLogits(scales, y_NV);
    const labels_N1 = unsqueeze(labels_N, 1);
    sub_(y_NV, amax(y_NV, [1], true));
    const target_N1 = gather(y_NV, 1, labels_N1);
    const exp_NV = exp_(y_NV);
    const sum_N1 = sumDim(exp_NV, [1], true);
    copy_(narrow(figures_N2, 1, 0, 1), sub(log(sum_N1), target_N1));
    // The largest logit is zero now, so the label's logit alone tells. A tie counts as right.
    copy_(narrow(figures_N2, 1, 1, 1), addScalar_(sign_(target_N1), 1));
    if (scale === null) return;
    mul_(exp_NV, mulScalar(reciprocal(sum_N1), scale));
    scatterAdd_(exp_NV, 1, labels_N1, full(shape(labels_N1), -scale, dtype(exp_NV), device(exp_NV)));
    leave(throughLogits_(scales, slope, exp_NV), logits_NV);
  });
}

/** loss_n = weight KL(softmax(teacher_n) || softmax(y_n)) */
export function divergenceReference(
  { logits_NV, scales, figures_N2 }: Tile,
  teacher: { logits_NV: Tensor; scales: LogitScales },
  weight: number,
  scale: number | null,
) {
  scope(() => {
    const y_NV = scaled(logits_NV, scales);
    const slope = scale === null ? null : slopeOfLogits(scales, y_NV);
    const p_NV = toLogProbabilities_(scaled(teacher.logits_NV, teacher.scales));
    toLogProbabilities_(y_NV);
    const loss_N1 = scope(() => {
      const apart_NV = sub(p_NV, y_NV);
      return mulScalar(sumDim(mul_(apart_NV, exp_(p_NV)), [1], true), weight);
    });
    copy_(narrow(fill_(figures_N2, 0), 1, 0, 1), loss_N1);
    if (scale !== null)
      leave(throughLogits_(scales, slope, mulScalar_(sub_(exp_(y_NV), p_NV), weight * scale)), logits_NV);
  });
}

/** Scaled logits, wide enough to compute with; in place if they are wide already. */
const scaled = (logits_NV: Tensor, scales: LogitScales): Tensor =>
  scaleLogits_(scales, cast(logits_NV, dtype(logits_NV) === "float64" ? "float64" : "float32"));

/** Writes a gradient over the logits, unless it is there already. */
function leave(gradient_NV: Tensor, logits_NV: Tensor): void {
  if (dtype(gradient_NV) !== dtype(logits_NV)) copy_(logits_NV, gradient_NV);
}

const toLogProbabilities_ = (z_NV: Tensor): Tensor => scope(() => sub_(z_NV, logsumexp(z_NV, [1], true)));
