// AdamW with block-wise 8-bit state (Dettmers et al., arXiv 2110.02861; bitsandbytes.optim.AdamW8bit): moments are
// decoded, updated and used in float32, then stored in 8 bits: m by the signed, v by the unsigned dynamic map. State: 2
// bytes per element and 8 per 256 elements. As in bitsandbytes, parameters below 4096 elements keep float32 state; as
// in the paper (section 2.3) and transformers' Trainer, so does the embedding, whose gradients are sparse and uneven.
import { adamw8bit_ } from "../torch/ops.js";
import { device, type Tensor } from "../torch/tensor.js";
import { ADAM_ROWS, adamSettings, type AdamWSettings, adamNumbers, adamwRule, updateTile } from "./adamw.js";
import { BLOCK_ELEMENTS, BlockQuantizer } from "./state/block-quantize.js";
import { defineOptimizer } from "./entry.js";
import { elementsOf, type Optimizer, type ParameterFacts, type Rule } from "./optimizer.js";
import { scope } from "../torch/scope.js";
import { forTiles, range } from "./tiles.js";

const SMALLEST_ELEMENTS = 4096;

export const ADAMW8BIT = defineOptimizer({
  name: "adamw8bit",
  stateBytes: "2",
  goodRates: [1e-5, 2e-5],
  rows: ADAM_ROWS,
  stateBlock: BLOCK_ELEMENTS,
  isProposedForMemory: true,
  make: (settings) => adamw8bit(adamSettings(settings)),
});

export function adamw8bit(settings: AdamWSettings): Optimizer {
  return {
    name: "adamw8bit",
    rule: (parameter) =>
      elementsOf(parameter.shape) < SMALLEST_ELEMENTS || parameter.kind === "embedding"
        ? adamwRule(settings, parameter)
        : blockwise(settings, parameter),
  };
}

function blockwise(settings: AdamWSettings, parameter: ParameterFacts): Rule {
  const code = { shape: parameter.shape, dtype: "uint8" } as const;
  const scale = { shape: [Math.ceil(elementsOf(parameter.shape) / BLOCK_ELEMENTS)], dtype: "float32" } as const;
  return {
    elementwise: true,
    layout: { m: code, m_scale: scale, v: code, v_scale: scale },
    update: (weight, gradient, state, update) =>
      scope(() => {
        const signed = new BlockQuantizer(true, device(gradient));
        const unsigned = new BlockQuantizer(false, device(gradient));
        forTiles(gradient, (start, count) => {
          const tile = (t: Tensor): Tensor => range(t, start, count);
          const scales = (t: Tensor): Tensor => range(t, start / BLOCK_ELEMENTS, Math.ceil(count / BLOCK_ELEMENTS));
          const m = signed.decode(tile(state.m), scales(state.m_scale));
          const v = unsigned.decode(tile(state.v), scales(state.v_scale));
          updateTile(settings, parameter, { weight, start }, tile(gradient), { m, v }, update);
          signed.encode(m, tile(state.m), scales(state.m_scale));
          unsigned.encode(v, tile(state.v), scales(state.v_scale));
        });
      }),
    kernel: ({ stored }, gradient, { m, m_scale, v, v_scale }, update) =>
      adamw8bit_(...stored, m, m_scale, v, v_scale, gradient, ...adamNumbers(settings, parameter, update)),
  };
}
