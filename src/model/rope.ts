// Rotary position frequencies: the plain ones and the ways to stretch them over longer texts, read from config.json in
// either dialect (`rope_theta` with `rope_scaling`, or `rope_parameters`). Agrees with modeling_rope_utils.py of
// transformers 5; a type that is not here is refused, because plain frequencies would train another network.
import { excerpt, UserError } from "../errors.js";
import { ConfigReader } from "./config.js";

export interface Rope {
  /** Base of the geometric series of wavelengths. */
  theta: number;
  scaling: RopeScaling;
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

interface Sizes {
  headDim: number;
  maxPositions: number;
}

interface Block extends Sizes {
  read: ConfigReader;
  /** The length of the texts before stretching. */
  originalPositions: () => number;
}

const SCALINGS: Record<RopeScaling["type"], (block: Block) => RopeScaling> = {
  default: () => ({ type: "default" }),
  linear: ({ read }) => ({ type: "linear", factor: read.positive("factor") }),
  dynamic: ({ read, maxPositions }) => ({ type: "dynamic", factor: read.positive("factor"), maxPositions }),
  yarn: readYarn,
  longrope: readLongrope,
  llama3: ({ read, originalPositions }) => {
    const lowFactor = read.positive("low_freq_factor");
    const highFactor = read.positive("high_freq_factor");
    if (highFactor <= lowFactor) read.fail("high_freq_factor", `more than low_freq_factor, ${lowFactor}`);
    return {
      type: "llama3",
      factor: read.positive("factor"),
      lowFactor,
      highFactor,
      originalPositions: originalPositions(),
    };
  },
};

/** The rotary settings of a config.json; `defaultTheta` is the family's. */
export function readRope(file: ConfigReader, defaultTheta: number, sizes: Sizes): Rope {
  const key = file.holds("rope_scaling") ? "rope_scaling" : "rope_parameters";
  const source = file.source[key] ?? {};
  if (typeof source !== "object" || Array.isArray(source)) file.fail(key, "an object or null");
  const read = new ConfigReader(source as Record<string, unknown>, `${file.where}: ${key}`);
  for (const [name, value] of Object.entries(source)) {
    if (value !== null && typeof value === "object" && !Array.isArray(value))
      read.fail(name, "no block per layer type");
  }
  for (const each of [file, read]) each.only("partial_rotary_factor", [1]);
  const type = read.source.rope_type ?? read.source.type ?? "default";
  if (typeof type !== "string" || !Object.hasOwn(SCALINGS, type)) {
    throw new UserError(
      `${read.where}: rope type ${excerpt(type)} is not supported (expected ${Object.keys(SCALINGS).join(", ")}).`,
    );
  }
  const originalKey = "original_max_position_embeddings";
  const originalPositions = (): number =>
    (file.holds(originalKey) ? file : read).integer(originalKey, sizes.maxPositions);
  const theta = read.holds("rope_theta") ? read.positive("rope_theta") : file.positive("rope_theta", defaultTheta);
  return { theta, scaling: SCALINGS[type as RopeScaling["type"]]({ read, originalPositions, ...sizes }) };
}

// A null factor stands for the ratio of the lengths, as in files of DeepSeek; so does a missing one in longrope.
const lengthRatio = ({ maxPositions, originalPositions }: Block): number => maxPositions / originalPositions();

function readYarn(block: Block): RopeScaling {
  const { read, originalPositions } = block;
  const factor = read.source.factor === null ? lengthRatio(block) : read.positive("factor");
  const stretch = (weight: number): number => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  const [above, below] = [read.number("mscale", 0), read.number("mscale_all_dim", 0)];
  const usual = above && below ? stretch(above) / stretch(below) : stretch(1);
  return {
    type: "yarn",
    factor,
    originalPositions: originalPositions(),
    attentionFactor: read.number("attention_factor", usual),
    betaFast: read.number("beta_fast", 0) || 32,
    betaSlow: read.number("beta_slow", 0) || 1,
    truncate: read.boolean("truncate", true),
  };
}

function readLongrope(block: Block): RopeScaling {
  const { read, headDim } = block;
  const originalPositions = block.originalPositions();
  const factor = read.holds("factor") ? read.positive("factor") : lengthRatio(block);
  const usual = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalPositions));
  return {
    type: "longrope",
    originalPositions,
    shortFactors: read.positives("short_factor", headDim / 2),
    longFactors: read.positives("long_factor", headDim / 2),
    attentionFactor: read.number("attention_factor", usual),
  };
}

/**
 * Radians per position for each pair of a head's features, rounded to float32, and what cosines and sines are multiplied
 * by. `length` is the largest position plus one: "dynamic" and "longrope" depend on it.
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
      // Between the pairs that turn betaFast and betaSlow times over the original length, a ramp from kept to divided.
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
      // Wavelengths above the original length over lowFactor are divided, those below it over highFactor kept.
      return plain.map((frequency) => {
        const turns = (scaling.originalPositions * frequency) / (2 * Math.PI);
        const kept = Math.min(Math.max((turns - scaling.lowFactor) / (scaling.highFactor - scaling.lowFactor), 0), 1);
        return frequency * kept + (frequency / scaling.factor) * (1 - kept);
      });
  }
}
