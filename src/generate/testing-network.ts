// For the tests of this folder: tiny random networks, and the logits of a pass over the whole sequence.
import { scaleLogits_ } from "../reversible/logits.js";
import { readArchitecture } from "../families/registry.js";
import { TINY_QWEN2_MOE } from "../families/testing-config.js";
import { randomModel } from "../model/model.js";
import type { Coupling } from "../reversible/coupling.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import { floatStreams, type StreamFormat } from "../reversible/streams.js";
import { linear } from "../torch/ops.js";
import { free, scope } from "../torch/scope.js";
import { toArray } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { hiddenStates } from "../network/evaluate.js";
import { extensionOf, type NetworkDescription, networkParts } from "../network/description.js";
import { asEvaluated, type Network, openHead, outerNames } from "../network/network.js";
import { deviceStore } from "../store/device.js";

export const CONFIG = { ...TINY_QWEN2_MOE, max_position_embeddings: 64 };

/** A network with random weights in float32; the caller frees its model. */
export function tinyNetwork(
  coupling: Coupling = ordinary,
  format: StreamFormat = floatStreams("float32"),
  changes: Record<string, unknown> = {},
): Network {
  const source = { ...CONFIG, ...changes };
  const architecture = readArchitecture(source, "tiny");
  const model = randomModel(architecture, 7, "float32", TEST_DEVICE);
  return {
    model,
    coupling,
    format,
    computeDtype: "float32",
    device: TEST_DEVICE,
    store: deviceStore(TEST_DEVICE),
    lossTileTokens: 64,
  };
}

/** The same for any network that a folder may describe. */
export function describedNetwork(description: NetworkDescription, changes: Record<string, unknown> = {}): Network {
  const source = { ...CONFIG, ...changes };
  const architecture = extensionOf(description, "random")(readArchitecture(source, "tiny"));
  const model = randomModel(architecture, 7, "float32", TEST_DEVICE);
  return asEvaluated({
    model,
    ...networkParts(description),
    computeDtype: "float32",
    device: TEST_DEVICE,
    store: deviceStore(TEST_DEVICE),
    lossTileTokens: 64,
  });
}

/** Logits behind every position, without a cache. */
export function fullLogits(network: Network, tokens: number[]): number[][] {
  const positions = Int32Array.from(tokens.keys());
  const labels = new Int32Array(tokens.length).fill(-100);
  const batch = { tokens: Int32Array.from(tokens), labels, positions, segments: [tokens.length], trainedTokens: 0 };
  const { model, computeDtype } = network;
  const { norm, head } = outerNames(network);
  const rows: number[][] = [];
  scope(() => {
    const [hidden_TD] = hiddenStates(network, [batch]);
    const open = openHead(network);
    const normed_TD = model.architecture.finalNorm(open.get(norm.name), hidden_TD, computeDtype);
    const flat = toArray(scaleLogits_(model.architecture.scales, linear(normed_TD, open.get(head.name))));
    const width = model.architecture.vocabSize;
    for (let i = 0; i < tokens.length; i++) rows.push(flat.slice(i * width, (i + 1) * width));
    open.close();
    free(hidden_TD);
  });
  return rows;
}
