// A config.json with another depth, so that memory can be measured against depth. Nothing is read or written.
import { textConfig, withTextConfig } from "../checkpoint/config/text-config.js";

/**
 * The same model with `layers` blocks. A list with an entry per block (such as layer_types) is cut, or repeated from
 * its beginning; numbers of blocks beyond the depth are removed from mlp_only_layers.
 */
export function atDepth(config: Readonly<Record<string, unknown>>, layers: number): Record<string, unknown> {
  const source = textConfig(config);
  const before = source.num_hidden_layers;
  const entries = Object.entries(source).map(([key, value]): [string, unknown] => {
    if (!Array.isArray(value)) return [key, value];
    if (key === "mlp_only_layers") return [key, value.filter((layer) => layer < layers)];
    if (value.length !== before || before === 0) return [key, value];
    return [key, Array.from({ length: layers }, (_, i) => value[i % value.length])];
  });
  return withTextConfig(config, { ...Object.fromEntries(entries), num_hidden_layers: layers });
}
