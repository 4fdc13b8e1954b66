// Rotary positions (RoFormer, arXiv 2104.09864): the frequencies of a kind of attention, stretched for longer texts in
// the ways of modeling_rope_utils.py of transformers 5, and the tables that a micro-batch carries.
import { cast, cat, cos, mulScalar, outer, sin } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { type DType, fromArray, type Tensor } from "../torch/tensor.js";

export interface Rope {
  /** Base of the geometric series of wavelengths. */
  theta: number;
  scaling: RopeScaling;
}

export interface Rotary extends Rope {
  /** How many features of a head are rotated, R; the others pass unchanged. */
  width: number;
  /** Whether features 2i and 2i+1 make a pair; by default i and i + R/2 do. */
  neighbours?: true;
  /** Whether heads are rotated in float32, whatever the compute dtype. */
  wide?: true;
}

export type RopeScaling =
  | { type: "default" }
  | { type: "linear"; factor: number }
  | { type: "dynamic"; factor: number; maxPositions: number }
  | {
      type: "yarn";
      factor: number;
      originalPositions: number;
      attentionFactor: number;
      betaFast: number;
      betaSlow: number;
      truncate: boolean;
    }
  | {
      type: "longrope";
      shortFactors: number[];
      longFactors: number[];
      originalPositions: number;
      attentionFactor: number;
    }
  | { type: "llama3"; factor: number; lowFactor: number; highFactor: number; originalPositions: number };

/**
 * Radians per position for each pair of a head's features, rounded to float32, and the factor on cosines and sines.
 * `length` is the largest position plus one; "dynamic" and "longrope" depend on it.
 */
export function rotaryFrequencies(
  rope: Rope,
  headDim: number,
  length: number,
): { frequencies: number[]; scale: number } {
  const { scaling } = rope;
  const theta = scaling.type === "dynamic" ? dynamicTheta(rope.theta, scaling, headDim, length) : rope.theta;
  const plain = Array.from({ length: headDim / 2 }, (_, i) => 1 / theta ** (i / (headDim / 2)));
  return {
    frequencies: stretched(plain, rope, headDim, length).map(Math.fround),
    scale: "attentionFactor" in scaling ? scaling.attentionFactor : 1,
  };
}

// NTK-aware scaling that grows with the text (u/emozilla): the base is raised so that the longest wavelength just fits.
function dynamicTheta(
  theta: number,
  { factor, maxPositions }: { factor: number; maxPositions: number },
  headDim: number,
  length: number,
): number {
  const longest = Math.max(length, maxPositions);
  return theta * ((factor * longest) / maxPositions - (factor - 1)) ** (headDim / (headDim - 2));
}

function stretched(plain: number[], { theta, scaling }: Rope, headDim: number, length: number): number[] {
  switch (scaling.type) {
    case "default":
    case "dynamic":
      return plain;
    case "linear":
      return plain.map((frequency) => frequency / scaling.factor);
    case "longrope": {
      const factors = length > scaling.originalPositions ? scaling.longFactors : scaling.shortFactors;
      return plain.map((frequency, i) => frequency / factors[i]);
    }
    case "yarn": {
      // Between the pairs that make betaFast and betaSlow turns over the original length, a ramp leads from kept to
      // divided.
      const pairOf = (turns: number): number =>
        (headDim * Math.log(scaling.originalPositions / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
      const [fast, slow] = [pairOf(scaling.betaFast), pairOf(scaling.betaSlow)];
      const low = Math.max(scaling.truncate ? Math.floor(fast) : fast, 0);
      const high = Math.min(scaling.truncate ? Math.ceil(slow) : slow, headDim - 1);
      const width = low === high ? 0.001 : high - low;
      return plain.map((frequency, i) => {
        const divided = Math.min(Math.max((i - low) / width, 0), 1);
        return frequency * (1 - divided) + (frequency / scaling.factor) * divided;
      });
    }
    case "llama3":
      // Wavelengths above the original length / lowFactor are divided; those below the original length / highFactor are
      // kept.
      return plain.map((frequency) => {
        const turns = (scaling.originalPositions * frequency) / (2 * Math.PI);
        const kept = Math.min(Math.max((turns - scaling.lowFactor) / (scaling.highFactor - scaling.lowFactor), 0), 1);
        return frequency * kept + (frequency / scaling.factor) * (1 - kept);
      });
  }
}

/** cos and sin of each position's angles, R columns: the two features of a pair, R/2 apart, have the same values. */
export interface RotaryTables {
  cos_TR: Tensor;
  sin_TR: Tensor;
  /** See `Rotary`; even then, the tables are in the order of pairs R/2 apart. */
  neighbours?: true;
}

/**
 * Makes tables, computed in float32 and rounded once, as in transformers. `length`: the largest position plus one. The
 * caller frees them.
 */
export function rotaryTables(
  rotary: Rotary,
  positions_T: ArrayLike<number>,
  length: number,
  { computeDtype, device }: { computeDtype: DType; device: string },
): RotaryTables {
  const half = rotary.width / 2;
  const { frequencies, scale } = rotaryFrequencies(rotary, rotary.width, length);
  const angleDtype = computeDtype === "float64" ? "float64" : "float32";
  const tableDtype = rotary.wide ? angleDtype : computeDtype;
  const [cos_TR, sin_TR] = scope(() => {
    const angles_TH = outer(
      fromArray(positions_T, [positions_T.length], angleDtype, device),
      fromArray(frequencies, [half], angleDtype, device),
    );
    const angles_TR = cat([angles_TH, angles_TH], 1);
    return [cos(angles_TR), sin(angles_TR)].map((table_TR) => cast(mulScalar(table_TR, scale), tableDtype));
  });
  return { cos_TR, sin_TR, ...(rotary.neighbours && { neighbours: true }) };
}
