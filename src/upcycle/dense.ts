// The dense decoders that can become a mixture of experts, read like the families that are trained: a table of families
// by `model_type`, with what each family's attention has. Agrees with modeling_llama.py, modeling_mistral.py,
// modeling_qwen2.py and modeling_qwen3.py of transformers. What these compute and we cannot carry over is refused.
import type { ModelSource } from "../checkpoint/source.js";
import { excerpt, UserError } from "../errors.js";
import { type GroupedQuery, groupedQueryAttention } from "../layers/attention/grouped-query.js";
import { denseFeedForward } from "../layers/dense.js";
import type { Architecture } from "../model/architecture.js";
import { ConfigReader } from "../families/config-reader.js";
import { decoder } from "../families/decoder.js";
import { denseOf, type Geometry, headsOf, readGeometry } from "../families/geometry.js";

export interface DenseModel {
  architecture: Architecture;
  geometry: Geometry;
  attention: Attention;
  /** Whether only some of the layers have a sliding window; that of `attention` is null then. */
  mixedWindows: boolean;
}

/** The properties of a family's attention. */
export type Attention = Pick<GroupedQuery, "bias" | "queryKeyNorm" | "window">;
type Read = Pick<DenseModel, "geometry" | "attention">;
type Defaults = Partial<Parameters<typeof readGeometry>[1]>;

const PLAIN: Attention = { bias: "none", queryKeyNorm: "none", window: null };

const FAMILIES: Record<string, (read: ConfigReader) => Read> = {
  llama: (read) => {
    read.only("mlp_bias", [false]);
    return readDense(
      read,
      { keyValueHeads: "as many as heads", maxPositions: 2048 },
      { ...PLAIN, bias: readBias(read) },
    );
  },
  mistral: (read) => {
    read.only("layer_types", []);
    const window = read.source.sliding_window === null ? null : read.integer("sliding_window", 4096);
    return readDense(read, { maxPositions: 131_072 }, { ...PLAIN, window });
  },
  qwen2: (read) => readDense(read, {}, { ...PLAIN, bias: "qkv", window: commonWindow(read) }),
  qwen3: (read) => {
    // The class has its own head width, which a file need not repeat.
    const withHead = new ConfigReader({ head_dim: 128, ...read.source }, read.where);
    return readDense(withHead, {}, { bias: readBias(read), queryKeyNorm: "head", window: commonWindow(read) });
  },
};

/**
 * Reads a source's config.json. Errors: UserError if it is not a dense model of these families, or a part is not
 * supported.
 */
export function readDenseModel({ config: source, configPath }: Pick<ModelSource, "config" | "configPath">): DenseModel {
  const modelType = source.model_type;
  if (typeof modelType !== "string" || !Object.hasOwn(FAMILIES, modelType)) {
    throw new UserError(
      `${configPath}: model_type is ${excerpt(modelType)} (expected a dense model: ${Object.keys(FAMILIES).join(", ")}). ` +
        "Only these can be turned into a mixture of experts.",
    );
  }
  const read = new ConfigReader(source, configPath);
  const { geometry, attention } = FAMILIES[modelType](read);
  const architecture = decoder(read, {
    geometry,
    expertWidth: geometry.denseWidth,
    branches: (layer) => ({
      attention: groupedQueryAttention(layer, { ...headsOf(geometry), ...attention, clip: null }),
      feedForward: denseFeedForward(denseOf(geometry)),
    }),
  });
  const windowed = modelType.startsWith("qwen") ? windowedLayers(read) : 0;
  return { architecture, geometry, attention, mixedWindows: windowed > 0 && windowed < geometry.numLayers };
}

function readDense(read: ConfigReader, defaults: Defaults, attention: Attention): Read {
  const withoutExperts = new ConfigReader({ ...read.source, num_experts: 0, num_experts_per_tok: 1 }, read.where);
  const usual = { keyValueHeads: null, normEpsilon: 1e-6, theta: 10_000, maxPositions: 32_768, expertsPerToken: 1 };
  return { geometry: readGeometry(withoutExperts, { ...usual, ...defaults }), attention };
}

const readBias = (read: ConfigReader): "all" | "none" => (read.boolean("attention_bias", false) ? "all" : "none");

/**
 * Number of layers of a Qwen model with a window: those that `layer_types` names, or all from `max_window_layers` on.
 */
function windowedLayers(read: ConfigReader): number {
  if (!read.boolean("use_sliding_window", false)) return 0;
  const types = read.source.layer_types;
  if (Array.isArray(types)) return types.filter((type) => type === "sliding_attention").length;
  return Math.max(0, read.integer("num_hidden_layers") - read.integer("max_window_layers", 28, 0));
}

/** The window of all layers of a Qwen model; null if any layer has none. */
function commonWindow(read: ConfigReader): number | null {
  return windowedLayers(read) === read.integer("num_hidden_layers") ? read.integer("sliding_window", 4096) : null;
}
