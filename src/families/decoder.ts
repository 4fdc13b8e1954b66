// What families have in common beside their branches: pre-norm layers under `model.layers`, one table of embeddings, a final
// norm and a head.
import { UserError } from "../errors.js";
import { formatCount } from "../format.js";
import { type NormForm, normSpec, rmsNorm } from "../layers/norm.js";
import type { Architecture, Branch, Scales } from "../model/architecture.js";
import type { Rotary } from "../model/rotary.js";
import { NO_SCALES } from "../model/scales.js";
import { type ConfigReader, MOST } from "./config-reader.js";
import type { Geometry } from "./geometry.js";

export interface DecoderParts {
  geometry: Geometry;
  /** Inner width of one expert. */
  expertWidth: number;
  /** The branches of layer i. */
  branches(layer: number): { attention: Branch; feedForward: Branch };
  scales?: Scales;
  /** Of the norm behind the last layer; "n rounded" unless said otherwise. */
  normForm?: NormForm;
  /** Tables of positions, where they are not the one of the geometry. */
  rotary?: Rotary[];
  /** See `Architecture`. */
  passThrough?: RegExp;
}

/** Errors: UserError where sizes, each possible, are not so together. */
export function decoder(read: ConfigReader, { geometry, expertWidth, branches, ...own }: DecoderParts): Architecture {
  const { vocabSize, hiddenSize, numLayers, normEpsilon, rope, tieEmbeddings, ...rest } = geometry;
  const { scales = NO_SCALES, rotary = [rope], normForm, passThrough } = own;
  checkSize(geometry, expertWidth, read.where);
  const table = [vocabSize, hiddenSize];
  return {
    modelType: String(read.source.model_type),
    source: read.source,
    vocabSize,
    hiddenSize,
    maxPositions: rest.maxPositions,
    initializerRange: rest.initializerRange,
    experts: { count: rest.numExperts, perToken: rest.expertsPerToken, width: expertWidth },
    rotary,
    scales,
    ...(passThrough && { passThrough }),
    layers: Array.from({ length: numLayers }, (_, layer) => {
      const { attention, feedForward } = branches(layer);
      return {
        kind: `${attention.kind}, ${feedForward.kind}`,
        prefix: `model.layers.${layer}.`,
        attention,
        feedForward,
      };
    }),
    outer: {
      embedding: { name: "model.embed_tokens.weight", shape: table, init: "normal" },
      norm: normSpec("model.norm.weight", hiddenSize, normForm),
      head: tieEmbeddings ? null : { name: "lm_head.weight", shape: table, init: "normal" },
    },
    finalNorm: (weight_D, x_TD, computeDtype) => rmsNorm(x_TD, weight_D, normEpsilon, computeDtype, normForm),
  };
}

/** Names of the layers behind the last, which predict further tokens. */
export function predictionLayers({ numLayers }: Geometry, count: number): RegExp | undefined {
  if (count === 0) return undefined;
  const numbers = Array.from({ length: count }, (_, i) => numLayers + i);
  return new RegExp(`^model\\.layers\\.(${numbers.join("|")})\\.`);
}

/** Bytes of a larger model could not even be counted exactly. */
function checkSize(
  { numLayers, hiddenSize, vocabSize, numHeads, headDim, ...geometry }: Geometry,
  expertWidth: number,
  where: string,
): void {
  const feedForward = geometry.numExperts * expertWidth + geometry.denseWidth;
  const atMost = hiddenSize * (2 * vocabSize + numLayers * (4 * numHeads * headDim + 3 * feedForward));
  if (atMost <= MOST.parameters) return;
  throw new UserError(
    `${where}: its sizes make up to ${formatCount(atMost)} parameters (expected at most ${formatCount(MOST.parameters)}). Check the numbers in it.`,
  );
}
