// The dense decoders that can become a mixture of experts, read like the families that are trained: one table of
// families by `model_type`, each with what its attention has. Agrees with modeling_llama.py, modeling_mistral.py,
// modeling_qwen2.py and modeling_qwen3.py of transformers. What only those compute and we cannot carry over is refused.
import type { ModelSource } from "../checkpoint/source.js";
import { excerpt, UserError } from "../errors.js";
import type { Architecture, ModelConfig } from "../model/architecture.js";
import { ConfigReader } from "../model/config.js";
import { readGeometry } from "../model/geometry.js";
import { preNormDecoder } from "../model/pre-norm-decoder.js";

export interface DenseModel {
  architecture: Architecture;
  config: ModelConfig;
  /** Whether only some of the layers have a sliding window; `config.slidingWindow` is null then. */
  mixedWindows: boolean;
}

type Attention = Pick<ModelConfig, "attentionBias" | "queryKeyNorm" | "slidingWindow">;
type Defaults = Partial<Parameters<typeof readGeometry>[1]>;

const PLAIN: Attention = { attentionBias: "none", queryKeyNorm: "none", slidingWindow: null };

const FAMILIES: Record<string, (read: ConfigReader) => ModelConfig> = {
  llama: (read) => {
    read.only("mlp_bias", [false]);
    return readDense(
      read,
      { keyValueHeads: "as many as heads", maxPositions: 2048 },
      { ...PLAIN, attentionBias: readBias(read) },
    );
  },
  mistral: (read) => {
    read.only("layer_types", []);
    const slidingWindow = read.source.sliding_window === null ? null : read.integer("sliding_window", 4096);
    return readDense(read, { maxPositions: 131_072 }, { ...PLAIN, slidingWindow });
  },
  qwen2: (read) => readDense(read, {}, { ...PLAIN, attentionBias: "qkv", slidingWindow: commonWindow(read) }),
  qwen3: (read) => {
    // The class has a head width of its own, which a file need not repeat.
    const withHead = new ConfigReader({ head_dim: 128, ...read.source }, read.where);
    return readDense(
      withHead,
      {},
      { attentionBias: readBias(read), queryKeyNorm: "head", slidingWindow: commonWindow(read) },
    );
  },
};

/** What a source's config.json describes. Errors: UserError when it is no dense model of these families, or a part is not supported. */
export function readDenseModel({ config: source, configPath }: Pick<ModelSource, "config" | "configPath">): DenseModel {
  const modelType = source.model_type;
  if (typeof modelType !== "string" || !Object.hasOwn(FAMILIES, modelType)) {
    throw new UserError(
      `${configPath}: model_type is ${excerpt(modelType)} (expected a dense model: ${Object.keys(FAMILIES).join(", ")}). ` +
        "Only these can be turned into a mixture of experts.",
    );
  }
  const architecture = preNormDecoder({ modelType, readConfig: FAMILIES[modelType] });
  const read = new ConfigReader(source, configPath);
  const config = architecture.readConfig(source, configPath);
  const windowed = modelType.startsWith("qwen") ? windowedLayers(read) : 0;
  return { architecture, config, mixedWindows: windowed > 0 && windowed < config.numLayers };
}

function readDense(read: ConfigReader, defaults: Defaults, attention: Attention): ModelConfig {
  const withoutExperts = new ConfigReader({ ...read.source, num_experts: 0, num_experts_per_tok: 1 }, read.where);
  const usual = { keyValueHeads: null, normEpsilon: 1e-6, theta: 10_000, maxPositions: 32_768, expertsPerToken: 1 };
  const geometry = readGeometry(withoutExperts, { ...usual, ...defaults });
  return {
    modelType: read.source.model_type as string,
    ...geometry,
    ...attention,
    clipQkv: null,
    expertWidth: geometry.denseWidth,
    sharedExpertWidth: 0,
    normalizeTopK: true,
    sparse: new Array<boolean>(geometry.numLayers).fill(false),
    source: read.source,
  };
}

const readBias = (read: ConfigReader): "all" | "none" => (read.boolean("attention_bias", false) ? "all" : "none");

/** How many layers of a Qwen model have a window: those that `layer_types` names, or all from `max_window_layers` on. */
function windowedLayers(read: ConfigReader): number {
  if (!read.boolean("use_sliding_window", false)) return 0;
  const types = read.source.layer_types;
  if (Array.isArray(types)) return types.filter((type) => type === "sliding_attention").length;
  return Math.max(0, read.integer("num_hidden_layers") - read.integer("max_window_layers", 28, 0));
}

/** The window that all layers of a Qwen model have, or null. */
function commonWindow(read: ConfigReader): number | null {
  return windowedLayers(read) === read.integer("num_hidden_layers") ? read.integer("sliding_window", 4096) : null;
}
