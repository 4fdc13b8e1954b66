// Released sizes that are trained here with random weights: the folders of examples/released, each with a model's
// config.json. Layers, experts and vocabulary can be reduced.
import { readdirSync, readFileSync } from "node:fs";

import { parameterCount, placedParameters, readArchitecture } from "revmoe";

const RELEASED = new URL("../../examples/released/", import.meta.url);
export const GEOMETRIES = readdirSync(RELEASED, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

/** The families' names for the number of experts. */
const EXPERT_KEYS = ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"];

/**
 * The config.json of a released model.
 * @param {string} name
 * @param {{ layers?: number, experts?: number, vocabulary?: number }} fewer
 */
export function configOf(name, { layers, experts, vocabulary } = {}) {
  const config = JSON.parse(readFileSync(new URL(`${name}/config.json`, RELEASED), "utf8"));
  const expertKey = EXPERT_KEYS.find((key) => key in config);
  return {
    ...config,
    num_hidden_layers: layers ?? config.num_hidden_layers,
    [expertKey]: experts ?? config[expertKey],
    vocab_size: vocabulary ?? config.vocab_size,
    ...(config.layer_types && { layer_types: config.layer_types.slice(0, layers) }),
  };
}

export const parametersOf = (config) => parameterCount(placedParameters(readArchitecture(config, "config.json")));
