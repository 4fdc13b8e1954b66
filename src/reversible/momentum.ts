// Momentum coupling (Momentum ResNets, arXiv 2102.07870, eq. 2), with f the whole block's addition:
//   v' = gamma v + (1 - gamma) f(p);  p' = p + v'       back: p = p' - v';  v = (v' - (1 - gamma) f(p)) / gamma
// v starts at zero, and after the last block the momentum still under way is flushed: hidden = p + v gamma / (1 - gamma).
// gamma -> 0 is the ordinary network; gamma = -1 is the midpoint rule (arXiv 2512.02056, eq. 2.4) and stores nothing;
// gamma = +-2^-m drops m low bits of v per element and block, which are kept and brought back.
//   gradients, with g = dv' + dp': df = (1 - gamma) g;  dp = dp' + (df/dp)^T df;  dv = gamma g
import { UserError } from "../errors.js";
import { add, add_, mulScalar, mulScalar_, sub_ } from "../torch/ops.js";
import { type Tensor, zeros, shape, dtype, device } from "../torch/tensor.js";
import type { Coupling } from "./coupling.js";
import { keptBits } from "./streams.js";

export const GAMMAS = [-1, 0.5, -0.5, 0.25, -0.25, 0.125, -0.125];

export function momentum(gamma: number): Coupling {
  if (!GAMMAS.includes(gamma)) {
    throw new UserError(`gamma: ${gamma} is not possible (expected one of ${GAMMAS.join(", ")}): other factors do not shift bits.`);
  }
  const gain = 1 - gamma;
  return {
    name: `momentum(${gamma})`,
    reversible: true,
    numStreams: 2,
    storedBits: keptBits(gamma),
    begin: (x_TD, format) => {
      const p_TD = format.fromFloat(x_TD);
      return [p_TD, zeros(shape(p_TD), dtype(p_TD), device(p_TD))];
    },
    forward: ([p_TD, v_TD], apply, format, wantBits) => {
      const bits = wantBits ? format.droppedBits(v_TD, gamma) : null;
      const f_TD = apply("both", format.toFloat(p_TD));
      const vNext_TD = add(format.scale(v_TD, gamma), format.fromFloat(mulScalar(f_TD, gain)));
      return { streams: [add(p_TD, vNext_TD), vNext_TD], bits };
    },
    reverse: ([dp_TD, dv_TD], visit, known, format) => {
      const g_TD = add_(dv_TD, dp_TD);
      let p_TD: Tensor | null = null;
      if (known) p_TD = sub_(known.streams[0], known.streams[1]);
      const { y_TD, dx_TD } = visit("both", p_TD === null ? null : format.toFloat(p_TD), mulScalar(g_TD, gain));
      const dStreams = [add_(dp_TD, dx_TD), mulScalar_(g_TD, gamma)];
      if (!known || p_TD === null || y_TD === null) return { dStreams, streams: null };
      const scaled_TD = sub_(known.streams[1], format.fromFloat(mulScalar(y_TD, gain)));
      return { dStreams, streams: [p_TD, format.unscale(scaled_TD, known.bits, gamma)] };
    },
    end: ([p_TD, v_TD], format) => add_(mulScalar(format.toFloat(v_TD), gamma / gain), format.toFloat(p_TD)),
    endGradient: (dHidden_TD) => [dHidden_TD, mulScalar(dHidden_TD, gamma / gain)],
    beginGradient: ([dp_TD]) => dp_TD,
  };
}
