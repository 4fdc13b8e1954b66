// What the supported families have in common beside their branches: pre-norm blocks under `model.layers`, one table of
// embeddings, a final norm and a head. A family adds how it reads config.json and how its experts lie on disk.
import { UserError } from "../errors.js";
import { formatCount } from "../format.js";
import type { Architecture, ModelConfig } from "./architecture.js";
import { attentionBranch, attentionParameters } from "./attention/branch.js";
import { type ExpertNames, feedForwardBranch, feedForwardParameters, USUAL_NAMES } from "./feed-forward-branch.js";
import { ConfigReader, MOST } from "./config.js";
import { rmsNorm } from "./norm.js";

interface Family {
  modelType: string;
  readConfig(read: ConfigReader): ModelConfig;
  expertNames?: ExpertNames;
}

export function preNormDecoder({ modelType, readConfig, expertNames = USUAL_NAMES }: Family): Architecture {
  return {
    modelType,
    readConfig: (source, where) => {
      const config = readConfig(new ConfigReader(source, where));
      checkSize(config, where);
      return config;
    },
    blockPrefix: (layer) => `model.layers.${layer}.`,
    blockParameters: (config, layer) => [
      ...attentionParameters(config),
      ...feedForwardParameters(config, layer, expertNames),
    ],
    outerParameters: (config) => {
      const table = [config.vocabSize, config.hiddenSize];
      return {
        embedding: { name: "model.embed_tokens.weight", shape: table, init: "normal" },
        norm: { name: "model.norm.weight", shape: [config.hiddenSize], init: "ones" },
        head: config.tieEmbeddings ? null : { name: "lm_head.weight", shape: table, init: "normal" },
      };
    },
    attention: attentionBranch,
    feedForward: feedForwardBranch,
    finalNorm: (weight_D, x_TD, config, computeDtype) => rmsNorm(x_TD, weight_D, config.normEpsilon, computeDtype),
  };
}

/** Sizes that are each possible may not be so together: bytes of such a model could not even be counted exactly. */
function checkSize(
  { numLayers, hiddenSize, vocabSize, numHeads, headDim, ...config }: ModelConfig,
  where: string,
): void {
  const feedForward = config.numExperts * config.expertWidth + config.sharedExpertWidth + config.denseWidth;
  const atMost = hiddenSize * (2 * vocabSize + numLayers * (4 * numHeads * headDim + 3 * feedForward));
  if (atMost <= MOST.parameters) return;
  throw new UserError(
    `${where}: its sizes make up to ${formatCount(atMost)} parameters (expected at most ${formatCount(MOST.parameters)}). Check the numbers in it.`,
  );
}
