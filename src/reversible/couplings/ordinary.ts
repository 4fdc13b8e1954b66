// The network as everyone runs it: one stream, p' = p + f(p). Not reversible; it serves comparison, export, and
// evaluation of what was exported.
import { add_ } from "../../torch/ops.js";
import type { Coupling } from "../coupling.js";
import { defineCoupling } from "./definition.js";

export const ORDINARY = defineCoupling({
  name: "ordinary",
  about: "is the pretrained network itself, not reversible",
  rows: {},
  planned: [],
  fields: {},
  compared: [],
  make: () => ordinary,
});

export const ordinary: Coupling = {
  name: "ordinary",
  reversible: false,
  numStreams: 1,
  storedBits: 0,
  conversion: "equal",
  drawsSigns: false,
  takesUnits: true,
  begin: (x_TD, format) => [format.fromFloat(x_TD)],
  forward: ([p_TD], apply, format) => ({
    streams: [format.plus(p_TD, apply("both", format.toFloat(p_TD)))],
    bits: null,
  }),
  reverse: ([dp_TD], visit) => {
    const { dx_TD } = visit("both", null, dp_TD);
    return { dStreams: [add_(dp_TD, dx_TD)], streams: null };
  },
  end: ([p_TD], format) => format.toFloat(p_TD),
  endGradient: (dHidden_TD) => [dHidden_TD],
  beginGradient: ([dp_TD]) => dp_TD,
};
