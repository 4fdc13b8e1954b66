// The paper's block (RevFFN, arXiv 2512.20920): the hidden state is split into halves x1 and x2 of width D/2.
//   y1 = x1 + F(queries from x1; keys and values from x2);  y2 = x2 + G(y1)
// with F attention and G feed-forward, brought to full width by adapters that the block owns. Back: x2 = y2 - G(y1) is
// explicit; x1 = y1 - F(x1; x2) is a fixed point, as exact as F contracts. With `storedHint` the forward pass solves
// it, too, and keeps the few low bits by which the solution is off; so the inverse is exact on the grid.
import { assert } from "../../errors.js";
import type { SettingRows } from "../../settings/table.js";
import { add, add_, addScalar, amax, amin, bitAnd, cat, cast, narrow, sub } from "../../torch/ops.js";
import { dtype, item, numel, shape, type Tensor } from "../../torch/tensor.js";
import type { Coupling } from "../coupling.js";
import { solve, type SolverSettings } from "../fixed-point.js";
import { packBits, unpackBits } from "../streams.js";
import { defineCoupling } from "./definition.js";

const group = "Coupling revffn: adapters and inverse";

const ROWS = {
  reconstruction: {
    kind: "choice",
    choices: ["fixed_point", "stored_hint"],
    default: "fixed_point",
    group,
    about:
      "how the first stream is rebuilt; fixed_point: by iteration alone; stored_hint: exactly, with a few stored bits that correct the iteration",
  },
  fixed_point_iterations: {
    kind: "integer",
    default: 10,
    min: 1,
    max: 1000,
    group,
    about: "highest number of evaluations of attention to rebuild a block",
  },
  fixed_point_tolerance: {
    kind: "number",
    default: 0,
    min: 0,
    group,
    about: "stop the iteration when no element changes by more than this; 0: when nothing changes on the grid",
  },
  fixed_point_start: {
    kind: "choice",
    choices: ["output", "zero"],
    default: "output",
    group,
    about: "where the iteration starts: at the block's output, or at zero",
  },
  fixed_point_damping: {
    kind: "number",
    default: 1,
    above: 0,
    max: 1,
    group,
    about: "share of each step of the iteration that is taken; use less than 1 if the plain iteration oscillates",
  },
  fixed_point_anderson: {
    kind: "boolean",
    default: false,
    group,
    about: "use Anderson acceleration: mix the last two values of the iteration, to converge faster",
  },
  adapter_sharing: {
    kind: "choice",
    choices: ["layer", "stream"],
    default: "layer",
    group,
    about: "adapters of a layer; layer: one pair; stream: one pair for each of its streams",
  },
  adapter_init: {
    kind: "choice",
    choices: ["random", "identity"],
    default: "identity",
    group,
    about: "how adapters start; identity: each half of the hidden state keeps its place",
  },
  adapter_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group,
    about:
      "number of steps at the start of the run that train only the adapters; the paper then trains all but the router (freeze_router)",
  },
  adapter_learning_rate: {
    kind: "number",
    default: 0,
    min: 0,
    group,
    about: "highest learning rate in adapter_steps, which have their own warm-up and decay; 0: learning_rate",
  },
} as const satisfies SettingRows;

export const REVFFN = defineCoupling({
  name: "revffn",
  about: "is the block of the RevFFN paper",
  rows: ROWS,
  planned: ["reconstruction", "adapter_sharing"],
  inverse: [
    "reconstruction",
    "fixed_point_iterations",
    "fixed_point_tolerance",
    "fixed_point_start",
    "fixed_point_damping",
    "fixed_point_anderson",
  ],
  // The field says which adapters exist. How the inverse is solved is not part of the network.
  fields: { adapters: { setting: "adapter_sharing" } },
  kept: "hints",
  whenDiverged: "Set reconstruction to stored_hint, more damping, or coupling momentum.",
  compared: [{}],
  checks: [
    ({ fixed_point_anderson, fixed_point_damping }, at) =>
      fixed_point_anderson &&
      fixed_point_damping !== 1 &&
      `${at.subject("fixed_point_damping")} has no effect: ${at.mention("fixed_point_anderson")} chooses its own steps. Remove one of them.`,
    ({ reconstruction, stream }, at) =>
      reconstruction === "stored_hint" &&
      stream === "float32" &&
      `${at.subject("reconstruction")} needs an integer stream, not ${at.mention("stream")}. Set stream to int32, or reconstruction to fixed_point.`,
  ],
  widthProblem: (_settings, hiddenSize) =>
    hiddenSize % 2 !== 0 &&
    `coupling: revffn splits the hidden state, so hidden_size must be even, not ${hiddenSize}. Use coupling momentum.`,
  make: (_described, settings) =>
    revffn({
      iterations: settings?.fixed_point_iterations ?? ROWS.fixed_point_iterations.default,
      tolerance: settings?.fixed_point_tolerance ?? ROWS.fixed_point_tolerance.default,
      start: settings?.fixed_point_start ?? ROWS.fixed_point_start.default,
      damping: settings?.fixed_point_damping ?? ROWS.fixed_point_damping.default,
      anderson: settings?.fixed_point_anderson ?? ROWS.fixed_point_anderson.default,
      storedHint: settings?.reconstruction === "stored_hint",
    }),
});

export interface RevffnSettings extends SolverSettings {
  /** Whether the forward pass keeps what makes the inverse exact; only for integer streams. */
  storedHint: boolean;
}

export function revffn(settings: RevffnSettings): Coupling {
  const startOf = (y1_TD: Tensor): Tensor => (settings.start === "output" ? y1_TD : sub(y1_TD, y1_TD));
  return {
    name: settings.storedHint ? "revffn(stored hint)" : "revffn",
    reversible: true,
    numStreams: 2,
    storedBits: 0,
    conversion: "different",
    drawsSigns: false,
    takesUnits: false,
    halves: true,
    begin: (x_TD, format) => halves(format.fromFloat(x_TD)),
    forward: ([x1_TD, x2_TD], apply, format, pass) => {
      const attend = (from_TD: Tensor): Tensor => apply("attention", format.toFloat(from_TD), format.toFloat(x2_TD));
      const y1_TD = format.plus(x1_TD, attend(x1_TD));
      const y2_TD = format.plus(x2_TD, apply("feedForward", format.toFloat(y1_TD)));
      if (!settings.storedHint || !pass.wantBits) return { streams: [y1_TD, y2_TD], bits: null };
      const { x } = solve((from) => format.plus(y1_TD, attend(from), -1), startOf(y1_TD), format, settings, pass.each);
      return { streams: [y1_TD, y2_TD], bits: packHint(sub(x1_TD, x)) };
    },
    reverse: ([dy1_TD, dy2_TD], visit, known, format, pass) => {
      const [y1_TD, y2_TD] = known?.streams ?? [null, null];
      const feedForward = visit("feedForward", y1_TD === null ? null : format.toFloat(y1_TD), dy2_TD);
      const dx1_TD = add_(dy1_TD, feedForward.dx_TD);
      let [x1_TD, x2_TD]: (Tensor | null)[] = [null, null];
      if (known) {
        assert(y1_TD !== null && y2_TD !== null && feedForward.y_TD !== null, "revffn rebuilds from both streams");
        const solid_TD = format.plus_(y2_TD, feedForward.y_TD, -1);
        const attend = (from_TD: Tensor): Tensor =>
          known.apply("attention", format.toFloat(from_TD), format.toFloat(solid_TD));
        const g = (from: Tensor): Tensor => format.plus(y1_TD, attend(from), -1);
        const { x, solution } = solve(g, startOf(y1_TD), format, settings, pass.each);
        pass.report?.(solution);
        [x1_TD, x2_TD] = [known.bits === null ? x : add(x, unpackHint(known.bits, x)), solid_TD];
      }
      const float = (stream: Tensor | null): Tensor | null => (stream === null ? null : format.toFloat(stream));
      const { dx_TD, dMemory_TD } = visit("attention", float(x1_TD), dx1_TD, float(x2_TD));
      assert(dMemory_TD, "attention hands no gradient to its keys and values");
      const dStreams = [add(dx1_TD, dx_TD), add_(dy2_TD, dMemory_TD)];
      return { dStreams, streams: x1_TD === null || x2_TD === null ? null : [x1_TD, x2_TD] };
    },
    end: (streams, format) => cat(streams.map(format.toFloat), 1),
    endGradient: (dHidden_TD) => halves(dHidden_TD),
    beginGradient: (dStreams) => cat(dStreams, 1),
  };
}

function halves(x_TD: Tensor): Tensor[] {
  const half = shape(x_TD)[1] / 2;
  // Copies, because a view would keep the whole tensor alive, and streams are changed in place.
  return [0, half].map((start) => cast(narrow(x_TD, 1, start, half), dtype(x_TD), false, true));
}

/** Packs a signed difference in as many bits as its largest element needs; null when it is zero everywhere. */
function packHint(off_TD: Tensor): Tensor | null {
  const [least, most] = [item(amin(off_TD)), item(amax(off_TD))];
  if (least === 0 && most === 0) return null;
  const bits = [1, 2, 4, 8].find((width) => least >= -(2 ** (width - 1)) && most < 2 ** (width - 1));
  // What does not fit 8 bits is kept whole. Then the iteration is of no use here, and its report says so.
  return bits === undefined || numel(off_TD) % 8 !== 0 ? off_TD : packBits(off_TD, bits);
}

function unpackHint(hint: Tensor, like: Tensor): Tensor {
  if (dtype(hint) !== "uint8") return hint;
  const bits = (numel(hint) * 8) / numel(like);
  const half = 2 ** (bits - 1);
  const shifted = bitAnd(addScalar(unpackBits(hint, bits, shape(like), dtype(like)), half), 2 ** bits - 1);
  return addScalar(shifted, -half);
}
