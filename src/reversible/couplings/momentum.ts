// Momentum coupling (Momentum ResNets, arXiv 2102.07870, eq. 2), with f the whole block's addition:
//   v' = gamma v + (1 - gamma) f(p);  p' = p + v'       back: p = p' - v';  v = (v' - (1 - gamma) f(p)) / gamma
// v starts at zero, and after the last block the momentum still under way is flushed: hidden = p + v gamma / (1 - gamma).
// gamma -> 0 is the ordinary network; gamma = -1 is the midpoint rule (arXiv 2512.02056, eq. 2.4) and stores nothing;
// gamma = +-2^-m drops m low bits of v per element and block, which are kept and brought back.
// The smaller its size, the more bits are kept and the nearer is the ordinary network: 4 bits at 1/16, a byte at 1/256.
//   gradients, with g = dv' + dp': df = (1 - gamma) g;  dp = dp' + (df/dp)^T df;  dv = gamma g
import { UserError } from "../../errors.js";
import { formatNumber } from "../../format.js";
import { add, add_, addScalar, mul, mul_, mulScalar, mulScalar_, sub_ } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { type Tensor, zeros, shape, dtype, device } from "../../torch/tensor.js";
import type { Coupling, Pass } from "../coupling.js";
import { keptBits, type StreamFormat } from "../streams.js";
import { defineCoupling } from "./definition.js";
import { GAMMA_FIELD, GAMMAS, GAMMAS_IN_WORDS, packingProblem } from "./gamma.js";

export const MOMENTUM = defineCoupling({
  name: "momentum",
  about: "starts near the pretrained network",
  rows: {},
  planned: [],
  gamma: {
    // Without a grid every block divides by gamma, and rounding grows with that.
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

/** The factor on v in one pass: gamma, or gamma times +-1 per token; 0 where v is zero and none of its bits are kept. */
export interface Factor {
  gamma: number;
  signs_T1?: Tensor;
}

/** The update above; the factors of all passes have the size of `gamma`, or are 0. `gamma` itself counts at the flush. */
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
    // The momentum under way grows with gamma: see the quality study for how far off that is.
    conversion: gamma === -1 ? "different" : "close",
    drawsSigns: false,
    takesUnits: true,
    begin: (x_TD, format) => {
      const p_TD = format.fromFloat(x_TD);
      return [p_TD, zeros(shape(p_TD), dtype(p_TD), device(p_TD))];
    },
    forward: ([p_TD, v_TD], apply, format, pass) => {
      const factor = factorOf(pass);
      const bits = pass.wantBits && factor.gamma !== 0 ? format.droppedBits(v_TD, factor.gamma) : null;
      const vNext_TD = increment(apply("both", format.toFloat(p_TD)), factor, format);
      if (factor.gamma !== 0) format.addScaled_(vNext_TD, v_TD, factor.gamma, factor.signs_T1);
      return { streams: [add(p_TD, vNext_TD), vNext_TD], bits };
    },
    reverse: ([dp_TD, dv_TD], visit, known, format, pass) => {
      const factor = factorOf(pass);
      const g_TD = add_(dv_TD, dp_TD);
      let p_TD: Tensor | null = null;
      if (known) p_TD = sub_(known.streams[0], known.streams[1]);
      const { y_TD, dx_TD } = visit("both", p_TD === null ? null : format.toFloat(p_TD), timesRest(g_TD, factor));
      const dStreams = [add_(dp_TD, dx_TD), timesFactor_(g_TD, factor)];
      if (!known || p_TD === null || y_TD === null) return { dStreams, streams: null };
      const left_TD = scope(() => sub_(known.streams[1], increment(y_TD, factor, format)));
      const v_TD = factor.gamma === 0 ? left_TD : format.unscale_(left_TD, known.bits, factor.gamma, factor.signs_T1);
      return { dStreams, streams: [p_TD, v_TD] };
    },
    end: ([p_TD, v_TD], format) =>
      scope(() => add_(mulScalar(format.toFloat(v_TD), gamma / (1 - gamma)), format.toFloat(p_TD))),
    endGradient: (dHidden_TD) => [dHidden_TD, mulScalar(dHidden_TD, gamma / (1 - gamma))],
    beginGradient: ([dp_TD]) => dp_TD,
  };
}

/** (1 - factor) y, as an increment of the stream. */
const increment = (y_TD: Tensor, factor: Factor, format: StreamFormat): Tensor =>
  factor.signs_T1 === undefined ? format.fromFloat(y_TD, 1 - factor.gamma) : format.fromFloat(timesRest(y_TD, factor));

/** (1 - factor) y */
function timesRest(y_TD: Tensor, { gamma, signs_T1 }: Factor): Tensor {
  return signs_T1 === undefined ? mulScalar(y_TD, 1 - gamma) : mul(y_TD, addScalar(mulScalar(signs_T1, -gamma), 1));
}

function timesFactor_(g_TD: Tensor, { gamma, signs_T1 }: Factor): Tensor {
  mulScalar_(g_TD, gamma);
  return signs_T1 === undefined ? g_TD : mul_(g_TD, signs_T1);
}
