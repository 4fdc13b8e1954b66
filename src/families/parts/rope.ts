// The rotary settings of config.json: plain frequencies and the ways to stretch them over longer texts, in either
// dialect (`rope_theta` with `rope_scaling`, or `rope_parameters`). Agrees with modeling_rope_utils.py of
// transformers 5; a type that is not here is refused, because plain frequencies would train another network.
import { excerpt, UserError } from "../../errors.js";
import type { RopeScaling, Rotary } from "../../model/rotary.js";
import { ConfigReader } from "../config-reader.js";

interface Sizes {
  /** Features of a head; once it is known, only those that turn. */
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

/** What a family says where its file does not. */
interface RopeDefaults {
  theta: number;
  /** Which share of a head's features turn; undefined in a family where all do, whatever the file says. */
  partial?: number;
}

/** The rotary settings of a config.json. */
export function readRope(file: ConfigReader, defaults: RopeDefaults, sizes: Sizes): Rotary {
  const read = readBlock(file);
  for (const [name, value] of Object.entries(read.source)) {
    if (value !== null && typeof value === "object" && !Array.isArray(value))
      read.fail(name, "no block per layer type");
  }
  const width = turningFeatures(read, file, defaults, sizes);
  const type = read.source.rope_type ?? read.source.type ?? "default";
  if (typeof type !== "string" || !Object.hasOwn(SCALINGS, type)) {
    throw new UserError(
      `${read.where}: rope type ${excerpt(type)} is not supported (expected ${Object.keys(SCALINGS).join(", ")}).`,
    );
  }
  const originalKey = "original_max_position_embeddings";
  const originalPositions = (): number =>
    (file.holds(originalKey) ? file : read).integer(originalKey, sizes.maxPositions);
  const theta = read.holds("rope_theta") ? read.positive("rope_theta") : file.positive("rope_theta", defaults.theta);
  const block = { read, originalPositions, ...sizes, headDim: width };
  return { theta, scaling: SCALINGS[type as RopeScaling["type"]](block), width };
}

/** The settings under either of their names. */
function readBlock(file: ConfigReader): ConfigReader {
  const key = file.holds("rope_scaling") ? "rope_scaling" : "rope_parameters";
  const source = file.source[key] ?? {};
  if (typeof source !== "object" || Array.isArray(source)) file.fail(key, "an object or null");
  return new ConfigReader(source as Record<string, unknown>, `${file.where}: ${key}`);
}

/** How many features of a head turn. */
function turningFeatures(
  block: ConfigReader,
  file: ConfigReader,
  { partial }: RopeDefaults,
  { headDim }: Sizes,
): number {
  const key = "partial_rotary_factor";
  if (partial === undefined) for (const each of [file, block]) each.only(key, [1]);
  const stated = [block, file].find((each) => each.holds(key));
  const width = Math.trunc(headDim * (stated?.positive(key) ?? partial ?? 1));
  if (width % 2 === 0 && width >= 2 && width <= headDim) return width;
  return (stated ?? file).fail(key, `a share of ${headDim} features that is an even number of them`);
}

// A null factor stands for the ratio of the lengths, as in files of DeepSeek; so does a missing one in longrope.
const lengthRatio = ({ maxPositions, originalPositions }: Block): number => maxPositions / originalPositions();

/** How much longer texts sharpen attention by YaRN (arXiv 2309.00071, eq. 22), and DeepSeek's weights of it. */
const yarnStretch = (factor: number, weight: number): number => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);

/** What scores are multiplied by in DeepSeek's families: tables have only the ratio of `mscale` to `mscale_all_dim`. */
export function readScoreFactor(file: ConfigReader, { scaling }: Rotary): number {
  const block = readBlock(file);
  const weight = block.number("mscale_all_dim", 0);
  if (scaling.type === "default" || weight === 0) return 1;
  if (!("factor" in scaling)) return block.fail("mscale_all_dim", `0 for rope type ${scaling.type}`);
  return yarnStretch(scaling.factor, weight) ** 2;
}

function readYarn(block: Block): RopeScaling {
  const { read, originalPositions } = block;
  const factor = read.source.factor === null ? lengthRatio(block) : read.positive("factor");
  const stretch = (weight: number): number => yarnStretch(factor, weight);
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
