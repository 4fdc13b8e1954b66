// BDIA (bidirectional integration approximation, arXiv 2407.09093), with f the whole block's addition:
//   p' = gamma p_before + (1 - gamma) p + (1 + gamma) f(p),  gamma = +-2^-m drawn for every document and block
// With v = p - p_before this is the momentum update with factor -gamma, and shares its arithmetic and its stored bits.
// The first block is an ordinary step. gamma has mean 0, so training is noise around the ordinary network; that network
// is evaluated and exported.
import { assert } from "../../errors.js";
import { formatNumber } from "../../format.js";
import { mulScalar } from "../../torch/ops.js";
import type { Coupling } from "../coupling.js";
import { defineCoupling } from "./definition.js";
import { GAMMA_FIELD, packingProblem } from "./gamma.js";
import { momentumUnits } from "./momentum.js";

export const BDIA = defineCoupling({
  name: "bdia",
  about: "trains that network with noise",
  rows: {},
  planned: [],
  gamma: {
    about: "1/16, with a random sign",
    otherwise: [{ given: "coupling", when: { coupling: "bdia" }, value: 0.0625 }],
  },
  fields: { gamma: GAMMA_FIELD },
  compared: [{ gamma: 0.0625 }],
  checks: [
    ({ gamma }, at) =>
      gamma < 0 &&
      `${at.subject("gamma")} has no sign of its own with ${at.mention("coupling")}, which draws it (expected 1/2, 1/4, 1/8 to 1/256). Drop the minus.`,
  ],
  widthProblem: packingProblem,
  make: ({ gamma }) => bdia(gamma),
});

export function bdia(gamma: number): Coupling {
  const magnitude = Math.abs(gamma);
  return {
    ...momentumUnits(magnitude, ({ unit, signs_T1 }) => {
      if (unit === 0) return { gamma: 0 };
      assert(signs_T1 !== undefined, "bdia passes a block without signs");
      return { gamma: magnitude, signs_T1 };
    }),
    name: `bdia(${formatNumber(magnitude)})`,
    conversion: "equal",
    drawsSigns: true,
    end: ([p_TD], format) => format.toFloat(p_TD),
    endGradient: (dHidden_TD) => [dHidden_TD, mulScalar(dHidden_TD, 0)],
  };
}
