// What Qwen3-Next and Qwen3.5 have in common: layers whose attention is the gated delta rule between layers with a gate on attention's
// output, norms with 1 + w, a quarter of a head's features that turn, and a shared expert behind its own gate.
import type { GatedDelta } from "../../layers/attention/delta-settings.js";
import { gatedDeltaAttention } from "../../layers/attention/gated-delta.js";
import { groupedQueryAttention } from "../../layers/attention/grouped-query.js";
import type { Projections } from "../../layers/attention/delta-projections.js";
import { denseFeedForward } from "../../layers/dense.js";
import { routedFeedForward, USUAL_NAMES } from "../../layers/experts/feed-forward.js";
import type { NormForm } from "../../layers/norm.js";
import type { Router } from "../../layers/experts/router.js";
import { type ConfigReader, MOST } from "../config-reader.js";
import type { DecoderParts } from "../decoder.js";
import { denseOf, expertsOf, type Geometry, headsOf, readGeometry } from "../geometry.js";

const NORM_FORM: NormForm = "product with 1 + w rounded";

interface Differences {
  expertsPerToken: number;
  projections(heads: Pick<GatedDelta, "keyHeads" | "keyWidth" | "valueHeads" | "valueWidth">): Projections;
  router: Router;
  /** Which layers route; the others are dense. */
  routed(geometry: Geometry): boolean[];
}

/** Reads all that both families have under the same keys. */
export function readDeltaDecoder(
  read: ConfigReader,
  { expertsPerToken, projections, router, routed }: Differences,
): DecoderParts {
  const geometry = readGeometry(read, {
    keyValueHeads: null,
    normEpsilon: 1e-6,
    theta: 10_000,
    maxPositions: 32_768,
    expertsPerToken,
    headDim: 256,
    partialRotary: 0.25,
    denseWidth: 5632,
  });
  const { numLayers } = geometry;
  const heads = {
    keyHeads: read.integer("linear_num_key_heads", 16, 1, MOST.heads),
    keyWidth: read.integer("linear_key_head_dim", 128, 1, MOST.headWidth),
    valueHeads: read.integer("linear_num_value_heads", 32, 1, MOST.heads),
    valueWidth: read.integer("linear_value_head_dim", 128, 1, MOST.headWidth),
  };
  if (heads.valueHeads % heads.keyHeads !== 0)
    read.fail("linear_num_value_heads", `a multiple of linear_num_key_heads, ${heads.keyHeads}`);
  const delta = {
    ...{ hiddenSize: geometry.hiddenSize, normEpsilon: geometry.normEpsilon, normForm: NORM_FORM, ...heads },
    kernel: read.integer("linear_conv_kernel_dim", 4, 2, 64),
    projections: projections(heads),
  } as const;
  const attention = {
    ...headsOf(geometry),
    normForm: NORM_FORM,
    bias: read.boolean("attention_bias", false) ? "all" : "none",
    queryKeyNorm: "head",
    clip: null,
    window: null,
    gate: true,
  } as const;
  const expertWidth = read.integer("moe_intermediate_size", 512, 1, MOST.width);
  const experts = {
    ...expertsOf(geometry),
    normForm: NORM_FORM,
    expertWidth,
    sharedWidth: read.integer("shared_expert_intermediate_size", 512, 1, MOST.width),
    router,
    names: USUAL_NAMES,
  } as const;
  const isFull = fullLayers(read, numLayers);
  const isRouted = routed(geometry);
  return {
    geometry,
    expertWidth,
    normForm: NORM_FORM,
    branches: (layer) => ({
      attention: isFull[layer] ? groupedQueryAttention(layer, attention) : gatedDeltaAttention(layer, delta),
      feedForward: isRouted[layer]
        ? routedFeedForward(layer, experts)
        : denseFeedForward({ ...denseOf(geometry), normForm: NORM_FORM }),
    }),
  };
}

/** Which layers have full attention: those that `layer_types` names, else every fourth. */
function fullLayers(read: ConfigReader, numLayers: number): boolean[] {
  const [linear, full] = ["linear_attention", "full_attention"];
  const types = read.source.layer_types ?? null;
  if (types === null) {
    const interval = read.integer("full_attention_interval", 4);
    return Array.from({ length: numLayers }, (_, i) => (i + 1) % interval === 0);
  }
  if (!Array.isArray(types) || types.length !== numLayers || !types.every((type) => [linear, full].includes(type)))
    read.fail("layer_types", `a list of ${numLayers} times "${linear}" or "${full}"`);
  return types.map((type) => type === full);
}
