// The part of config.json that means the same in every family: sizes, positions, embeddings, experts. Where a key may be
// absent, the default is that of the family's class in transformers.
import { UserError } from "../errors.js";
import type { Rotary } from "../model/rotary.js";
import { type ConfigReader, MOST } from "./config-reader.js";
import { readRope } from "./parts/rope.js";

interface Defaults {
  /** Null where the file must say it. */
  keyValueHeads: "as many as heads" | null;
  normEpsilon: number;
  theta: number;
  maxPositions: number;
  /** Null where the file must say it. */
  expertsPerToken: number | null;
  /** Which share of a head's features turn; where it is missing all do, whatever the file says. */
  partialRotary?: number;
  /** The number of these features, by another key that some files have instead. */
  turningKey?: string;
  /** hidden_size / num_attention_heads unless said otherwise. */
  headDim?: number;
  /** False unless said otherwise. */
  tieEmbeddings?: boolean;
  /** Of dense layers; without it the file must say it. */
  denseWidth?: number;
  /** What the file calls the numbers of experts, where that is not as in most families. */
  expertsKey?: string;
  perTokenKey?: string;
}

export interface Geometry {
  vocabSize: number;
  hiddenSize: number;
  numLayers: number;
  numHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  normEpsilon: number;
  rope: Rotary;
  maxPositions: number;
  tieEmbeddings: boolean;
  initializerRange: number;
  /** Inner width of a dense feed-forward layer. */
  denseWidth: number;
  numExperts: number;
  expertsPerToken: number;
  source: Record<string, unknown>;
}

/** Reads what all families share, and refuses what none of them computes. */
export function readGeometry(read: ConfigReader, defaults: Defaults): Geometry {
  read.only("hidden_act", ["silu"]);
  read.number("attention_dropout", 0);
  refuseQuantised(read);
  const hiddenSize = read.integer("hidden_size", undefined, 1, MOST.width);
  const numHeads = read.integer("num_attention_heads", undefined, 1, MOST.heads);
  const numKeyValueHeads = read.integer(
    "num_key_value_heads",
    defaults.keyValueHeads ? numHeads : undefined,
    1,
    MOST.heads,
  );
  const headDim = read.integer("head_dim", defaults.headDim ?? hiddenSize / numHeads, 1, MOST.headWidth);
  if (numHeads % numKeyValueHeads !== 0)
    read.fail("num_key_value_heads", `a divisor of num_attention_heads, ${numHeads}`);
  if (headDim % 2 !== 0) read.fail("head_dim", "an even number");
  const expertsKey = nameOfExperts(read, defaults);
  const numExperts = read.integer(expertsKey, undefined, 0, MOST.experts);
  const { perTokenKey = "num_experts_per_tok" } = defaults;
  const expertsPerToken = read.integer(perTokenKey, defaults.expertsPerToken ?? undefined);
  if (numExperts > 0 && expertsPerToken > numExperts) read.fail(perTokenKey, `at most ${expertsKey}, ${numExperts}`);
  const maxPositions = read.integer("max_position_embeddings", defaults.maxPositions);
  return {
    vocabSize: read.integer("vocab_size", undefined, 1, MOST.vocabulary),
    hiddenSize,
    numLayers: read.integer("num_hidden_layers", undefined, 1, MOST.layers),
    numHeads,
    numKeyValueHeads,
    headDim,
    normEpsilon: read.number("rms_norm_eps", defaults.normEpsilon),
    rope: readRope(
      read,
      { theta: defaults.theta, partial: partialRotary(read, defaults, headDim) },
      { headDim, maxPositions },
    ),
    maxPositions,
    tieEmbeddings: read.boolean("tie_word_embeddings", defaults.tieEmbeddings ?? false),
    initializerRange: read.number("initializer_range", 0.02),
    denseWidth: read.integer("intermediate_size", defaults.denseWidth, 1, MOST.width),
    numExperts,
    expertsPerToken,
    source: read.source,
  };
}

/** Which share of a head's features turn where no `partial_rotary_factor` says it. */
function partialRotary(
  read: ConfigReader,
  { partialRotary, turningKey }: Defaults,
  headDim: number,
): number | undefined {
  return turningKey !== undefined && read.holds(turningKey)
    ? read.integer(turningKey, undefined, 2, headDim) / headDim
    : partialRotary;
}

/** Files of transformers 5 may have either of the usual names, whatever the family's own is. */
const nameOfExperts = (read: ConfigReader, { expertsKey }: Pick<Defaults, "expertsKey"> = {}): string =>
  expertsKey ?? (read.holds("num_experts") ? "num_experts" : "num_local_experts");

function refuseQuantised({ source, where }: ConfigReader): void {
  const quantisation = source.quantization_config as { quant_method?: unknown } | null | undefined;
  if (quantisation === undefined || quantisation === null) return;
  const method =
    typeof quantisation.quant_method === "string" ? quantisation.quant_method.slice(0, 40) : "method unknown";
  throw new UserError(
    `${where}: quantization_config says the weights are quantised (${method}), ` +
      "which cannot be trained (expected float weights). Convert the model to bfloat16 first.",
  );
}

/** What attention with grouped queries needs of it; a family adds what it has of its own. */
export const headsOf = ({ hiddenSize, numHeads, numKeyValueHeads, headDim, normEpsilon }: Geometry) => ({
  ...{ hiddenSize, numHeads, numKeyValueHeads, headDim, normEpsilon },
  rotary: 0,
});

/** What layers that route need of it. */
export const expertsOf = ({ hiddenSize, normEpsilon, numExperts, expertsPerToken }: Geometry) => ({
  ...{ hiddenSize, normEpsilon, numExperts, expertsPerToken },
  sharedWidth: 0,
});

/** Width of shared experts that are one unit as wide as `key` experts; without `fallback` the file must say how many. */
export function sharedWidth(
  read: ConfigReader,
  key: string,
  expertWidth: number,
  least: number,
  fallback?: number,
): number {
  return expertWidth * read.integer(key, fallback, least, Math.floor(MOST.width / expertWidth));
}

/** What dense layers need of it. */
export const denseOf = ({ hiddenSize, normEpsilon, denseWidth }: Geometry) => ({
  ...{ hiddenSize, normEpsilon },
  width: denseWidth,
});

/** Which layers of the Qwen families route: those that `decoder_sparse_step` counts and `mlp_only_layers` does not name. */
export function routedBySteps(read: ConfigReader, { numLayers, numExperts }: Geometry): boolean[] {
  const step = read.integer("decoder_sparse_step", 1);
  const dense = new Set(read.integers("mlp_only_layers"));
  return Array.from({ length: numLayers }, (_, i) => numExperts > 0 && !dense.has(i) && (i + 1) % step === 0);
}

/** Where every layer routes, at least one expert is needed. */
export function routedEverywhere(read: ConfigReader, { numExperts }: Geometry): void {
  if (numExperts === 0) read.fail(nameOfExperts(read), "a whole number of at least 1");
}
