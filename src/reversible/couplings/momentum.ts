// Momentum coupling (Momentum ResNets, arXiv 2102.07870, eq. 2), with f the whole block's addition:
//   v' = gamma v + (1 - gamma) f(p);  p' = p + v'       back: p = p' - v';  v = (v' - (1 - gamma) f(p)) / gamma
// v starts at zero. After the last block the remaining momentum is flushed: hidden = p + v gamma / (1 - gamma).
// gamma -> 0 is the ordinary network. gamma = -1 is the midpoint rule (arXiv 2512.02056, eq. 2.4) and stores nothing.
// gamma = +-2^-m drops m low bits of v per element and block, which are kept and put back. A smaller size is nearer to
// the ordinary network but keeps more bits: 4 bits at 1/16, a byte at 1/256.
//   gradients, with g = dv' + dp': df = (1 - gamma) g;  dp = dp' + (df/dp)^T df;  dv = gamma g
import { UserError } from "../../errors.js";
import { formatNumber } from "../../format.js";
import { hasKernels } from "../../torch/kernels/kernels.js";
import { add_, addScalar, momentumGradient_, mul, mul_, mulScalar, mulScalar_ } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { device, dtype, empty, shape, type Tensor, zeros } from "../../torch/tensor.js";
import type { Coupling, Pass } from "../coupling.js";
import { type Factor, keptBits } from "../streams.js";
import { defineCoupling } from "./definition.js";
import { GAMMA_FIELD, GAMMAS, GAMMAS_IN_WORDS, packingProblem } from "./gamma.js";

export const MOMENTUM = defineCoupling({
  name: "momentum",
  about: "starts near the pretrained network",
  rows: {},
  planned: [],
  gamma: {
    // Without a grid every block divides by gamma, and rounding grows as 1/gamma.
    otherwise: [{ given: "stream", when: { stream: "float32", coupling: "momentum" }, value: -1 }],
  },
  fields: { gamma: GAMMA_FIELD },
  compared: [{ gamma: -1 / 256 }, { gamma: -1 / 16 }, { gamma: -1 }],
  widthProblem: packingProblem,
  make: ({ gamma }) => momentum(gamma),
});

export function momentum(gamma: number): Coupling {
  return { ...momentumUnits(gamma, () => ({ gamma })), name: `momentum(${formatNumber(gamma)})` };
}

/**
 * The update above. `factorOf` gives each pass its factor, of the size of `gamma` or 0; `gamma` itself is used in the
 * flush.
 */
export function momentumUnits(gamma: number, factorOf: (pass: Pass) => Factor): Coupling {
  if (!GAMMAS.includes(gamma)) {
    throw new UserError(
      `gamma: ${gamma} is not possible (expected ${GAMMAS_IN_WORDS}): other factors do not shift bits.`,
    );
  }
  return {
    name: "momentum",
    reversible: true,
    numStreams: 2,
    storedBits: keptBits(gamma),
    // The remaining momentum grows with gamma; the quality study shows how far off that is.
    conversion: gamma === -1 ? "different" : "close",
    drawsSigns: false,
    takesUnits: true,
    begin: (x_TD, format) => {
      const p_TD = format.fromFloat(x_TD);
      return [p_TD, zeros(shape(p_TD), dtype(p_TD), device(p_TD))];
    },
    forward: (streams, apply, format, pass) =>
      format.momentum(streams, apply("both", format.toFloat(streams[0])), factorOf(pass), pass),
    reverse: ([dp_TD, dv_TD], visit, known, format, pass) => {
      const factor = factorOf(pass);
      const dBranch_TD = branchGradient_(dp_TD, dv_TD, factor);
      const [p_TD, v_TD] = known?.streams ?? [null, null];
      const x_TD = p_TD === null || v_TD === null ? null : format.momentumStart_(p_TD, v_TD);
      const { y_TD, dx_TD } = visit("both", x_TD, dBranch_TD);
      const dStreams = [add_(dp_TD, dx_TD), dv_TD];
      if (!known || p_TD === null || v_TD === null || y_TD === null) return { dStreams, streams: null };
      return { dStreams, streams: [p_TD, format.momentumBack_(v_TD, y_TD, known.bits, factor)] };
    },
    end: ([p_TD, v_TD], format) =>
      scope(() => add_(mulScalar(format.toFloat(v_TD), gamma / (1 - gamma)), format.toFloat(p_TD))),
    endGradient: (dHidden_TD) => [dHidden_TD, mulScalar(dHidden_TD, gamma / (1 - gamma))],
    beginGradient: ([dp_TD]) => dp_TD,
  };
}

/** df from g = dv' + dp'; overwrites dv' with dv. */
function branchGradient_(dp_TD: Tensor, dv_TD: Tensor, { gamma, signs_T1 }: Factor): Tensor {
  if (hasKernels(device(dv_TD)) && dtype(dv_TD) === "float32") {
    const df_TD = empty(shape(dv_TD), "float32", device(dv_TD));
    momentumGradient_(dv_TD, df_TD, dp_TD, signs_T1 ?? null, gamma);
    return df_TD;
  }
  const g_TD = add_(dv_TD, dp_TD);
  const df_TD =
    signs_T1 === undefined ? mulScalar(g_TD, 1 - gamma) : mul(g_TD, addScalar(mulScalar(signs_T1, -gamma), 1));
  mulScalar_(g_TD, gamma);
  if (signs_T1 !== undefined) mul_(g_TD, signs_T1);
  return df_TD;
}
