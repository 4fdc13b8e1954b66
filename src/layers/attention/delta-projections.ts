// Where the projections of a hidden state lie in layers with a gated delta rule: in one matrix per kind, or grouped by
// key head.
import { cat, narrow, reshape } from "../../torch/ops.js";
import { shape, type Tensor } from "../../torch/tensor.js";

interface Heads {
  keyHeads: number;
  keyWidth: number;
  valueHeads: number;
  valueWidth: number;
}

/**
 * Queries q, keys k, values v and gates z, heads side by side; b gives rates and a decays, one number per value head.
 */
export interface Projected {
  q_TN: Tensor;
  k_TN: Tensor;
  v_TN: Tensor;
  z_TN: Tensor;
  b_TH: Tensor;
  a_TH: Tensor;
}

/**
 * Where a part lies in the projections: its matrix, its first column, the distance between key heads, and its width per
 * key head.
 */
export interface Place {
  matrix: number;
  first: number;
  step: number;
  width: number;
}

export interface Projections {
  keyHeads: number;
  matrices: { name: string; rows: number }[];
  places: Record<keyof Projected, Place>;
}

/** in_proj_qkv, in_proj_z, in_proj_b, in_proj_a, as in Qwen3.5. */
export function plainProjections({ keyHeads, keyWidth, valueHeads, valueWidth }: Heads): Projections {
  const [keys, values] = [keyHeads * keyWidth, valueHeads * valueWidth];
  const shared = valueHeads / keyHeads;
  const dense = (matrix: number, first: number, width: number): Place => ({ matrix, first, step: width, width });
  return {
    keyHeads,
    matrices: [
      { name: "in_proj_qkv", rows: 2 * keys + values },
      { name: "in_proj_z", rows: values },
      { name: "in_proj_b", rows: valueHeads },
      { name: "in_proj_a", rows: valueHeads },
    ],
    places: {
      q_TN: dense(0, 0, keyWidth),
      k_TN: dense(0, keys, keyWidth),
      v_TN: dense(0, 2 * keys, shared * valueWidth),
      z_TN: dense(1, 0, shared * valueWidth),
      b_TH: dense(2, 0, shared),
      a_TH: dense(3, 0, shared),
    },
  };
}

/** in_proj_qkvz and in_proj_ba, as in Qwen3-Next: rows are grouped by key head, with the value heads that share it. */
export function groupedProjections({ keyHeads, keyWidth, valueHeads, valueWidth }: Heads): Projections {
  const shared = valueHeads / keyHeads;
  const values = shared * valueWidth;
  const step = 2 * keyWidth + 2 * values;
  return {
    keyHeads,
    matrices: [
      { name: "in_proj_qkvz", rows: keyHeads * step },
      { name: "in_proj_ba", rows: 2 * valueHeads },
    ],
    places: {
      q_TN: { matrix: 0, first: 0, step, width: keyWidth },
      k_TN: { matrix: 0, first: keyWidth, step, width: keyWidth },
      v_TN: { matrix: 0, first: 2 * keyWidth, step, width: values },
      z_TN: { matrix: 0, first: 2 * keyWidth + values, step, width: values },
      b_TH: { matrix: 1, first: 0, step: 2 * shared, width: shared },
      a_TH: { matrix: 1, first: shared, step: 2 * shared, width: shared },
    },
  };
}

/**
 * Whether a matrix has key head after key head, each with all its parts; else all queries precede all keys, and so on.
 */
const isGrouped = ({ places }: Projections, matrix: number): boolean =>
  Object.values(places).some((place) => place.matrix === matrix && place.step !== place.width);

/** The projections of one of `parts` equal parts of the heads. */
export function projectionsOfPart(projections: Projections, parts: number): Projections {
  const { keyHeads, matrices, places } = projections;
  const ofPart = (place: Place): Place =>
    isGrouped(projections, place.matrix) ? place : { ...place, first: place.first / parts };
  return {
    keyHeads: keyHeads / parts,
    matrices: matrices.map(({ name, rows }) => ({ name, rows: rows / parts })),
    places: Object.fromEntries(
      Object.entries(places).map(([name, place]) => [name, ofPart(place)]),
    ) as Projections["places"],
  };
}

/** What a matrix made, as [T, parts, N]; each part lies as `projectionsOfPart` says. */
export function byParts(projections: Projections, matrix: number, t_TN: Tensor, parts: number): Tensor {
  const { keyHeads, places } = projections;
  const [tokens, width] = shape(t_TN);
  if (isGrouped(projections, matrix)) return reshape(t_TN, [tokens, parts, width / parts]);
  const own = Object.values(places).filter((place) => place.matrix === matrix);
  const apart = own.map((place) =>
    reshape(narrow(t_TN, 1, place.first, keyHeads * place.width), [tokens, parts, (keyHeads * place.width) / parts]),
  );
  return apart.length === 1 ? apart[0] : cat(apart, 2);
}

/** Splits what the matrices made into the parts of `Projected`: views, or copies where key heads are apart. */
export function split({ keyHeads, places }: Projections, made: Tensor[]): Projected {
  const part = ({ matrix, first, step, width }: Place): Tensor => {
    const t_TN = made[matrix];
    if (step === width) return narrow(t_TN, 1, first, keyHeads * width);
    const t_TKN = reshape(t_TN, [shape(t_TN)[0], keyHeads, step]);
    return reshape(narrow(t_TKN, 2, first, width), [shape(t_TN)[0], -1]);
  };
  const { q_TN, k_TN, v_TN, z_TN, b_TH, a_TH } = places;
  return {
    ...{ q_TN: part(q_TN), k_TN: part(k_TN), v_TN: part(v_TN) },
    ...{ z_TN: part(z_TN), b_TH: part(b_TH), a_TH: part(a_TH) },
  };
}
