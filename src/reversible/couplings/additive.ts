// Additive coupling of two full-width streams (RevNet, arXiv 1707.04585, eq. 6-7; Reformer, arXiv 2001.04451):
//   a' = a + F(b);  b' = b + G(a')       back: b = b' - G(a');  a = a' - F(b)
// F is attention, G feed-forward. Both streams start as the embedding; their mean is the result. Nothing is stored.
// This is not the ordinary network, so it suits models trained this way.
import { add, add_, clone, mulScalar } from "../../torch/ops.js";
import type { Coupling } from "../coupling.js";
import { defineCoupling } from "./definition.js";

export const ADDITIVE = defineCoupling({
  name: "additive",
  about: "is for models that were trained with it",
  rows: {},
  planned: [],
  fields: {},
  compared: [{}],
  make: () => additive,
});

export const additive: Coupling = {
  name: "additive",
  reversible: true,
  numStreams: 2,
  storedBits: 0,
  conversion: "different",
  drawsSigns: false,
  takesUnits: false,
  begin: (x_TD, format) => {
    const a_TD = format.fromFloat(x_TD);
    return [a_TD, clone(a_TD)];
  },
  forward: ([a_TD, b_TD], apply, format, { overwrite }) => {
    const add = overwrite ? format.plus_ : format.plus;
    const aNext_TD = add(a_TD, apply("attention", format.toFloat(b_TD)));
    const bNext_TD = add(b_TD, apply("feedForward", format.toFloat(aNext_TD)));
    return { streams: [aNext_TD, bNext_TD], bits: null };
  },
  reverse: ([da_TD, db_TD], visit, known, format) => {
    const [a_TD, b_TD] = known?.streams ?? [null, null];
    const feedForward = visit("feedForward", a_TD === null ? null : format.toFloat(a_TD), db_TD);
    add_(da_TD, feedForward.dx_TD);
    if (b_TD !== null && feedForward.y_TD !== null) format.plus_(b_TD, feedForward.y_TD, -1);
    const attention = visit("attention", b_TD === null ? null : format.toFloat(b_TD), da_TD);
    add_(db_TD, attention.dx_TD);
    if (a_TD !== null && attention.y_TD !== null) format.plus_(a_TD, attention.y_TD, -1);
    return { dStreams: [da_TD, db_TD], streams: known?.streams ?? null };
  },
  end: ([a_TD, b_TD], format) => mulScalar(add(format.toFloat(a_TD), format.toFloat(b_TD)), 0.5),
  endGradient: (dHidden_TD) => [mulScalar(dHidden_TD, 0.5), mulScalar(dHidden_TD, 0.5)],
  beginGradient: ([da_TD, db_TD]) => add(da_TD, db_TD),
};
