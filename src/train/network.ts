// A model seen through a coupling: the function that is trained, evaluated and sampled. Opens blocks (their weights in
// compute form, one at a time), the embedding in front of them and the head behind them.
import type { Branch, Coupling } from "../reversible/coupling.js";
import type { Block } from "../reversible/methods.js";
import { ordinary } from "../reversible/ordinary.js";
import { floatStreams, type StreamFormat } from "../reversible/streams.js";
import type { Context } from "../model/context.js";
import type { ParameterSpec } from "../model/architecture.js";
import type { Model, Parameters } from "../model/model.js";
import { OpenWeights } from "../model/weights.js";
import { add, cast, embedding } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { fromArray, type DType, type Tensor } from "../torch/tensor.js";

export interface Network {
  model: Model;
  coupling: Coupling;
  format: StreamFormat;
  computeDtype: DType;
  device: string;
  lossTileTokens: number;
  /** Names of block parameters that are not trained. */
  frozen?: ReadonlySet<string>;
}

/** The same weights as the network that everyone runs: what `final/` is in other tools. */
export function asOrdinary(network: Network): Network {
  return { ...network, coupling: ordinary, format: floatStreams("float32") };
}

/** A block of the model with its weights open; `close` frees what opening made. */
export class OpenBlock implements Block<Context> {
  readonly weights: OpenWeights;
  readonly #network: Network;

  constructor(
    network: Network,
    readonly layer: number,
  ) {
    const { architecture, config, blocks } = network.model;
    this.#network = network;
    this.weights = new OpenWeights(blocks[layer], architecture.blockParameters(config, layer), network.computeDtype, network.frozen);
  }

  evaluate(branch: Branch, x_TD: Tensor, context: Context): Tensor {
    const { architecture } = this.#network.model;
    const attention = (): Tensor => scope(() => architecture.attention(this.weights, x_TD, this.layer, context));
    const feedForward = (h_TD: Tensor): Tensor => scope(() => architecture.feedForward(this.weights, h_TD, this.layer, context));
    if (branch === "attention") return attention();
    if (branch === "feedForward") return feedForward(x_TD);
    const a_TD = attention();
    return add(a_TD, feedForward(add(x_TD, a_TD)));
  }

  innerRoots(branch: Branch, { routerObserver }: Context): { outputs: Tensor[]; gradients: Tensor[] } {
    const none = branch === "attention" || routerObserver === undefined;
    return none ? { outputs: [], gradients: [] } : routerObserver.roots(this.layer);
  }

  close(): void {
    this.weights.close();
  }
}

/** Names of the weights that choose experts. */
export function routerNames({ architecture, config }: Model): ReadonlySet<string> {
  const specs = config.sparse.flatMap((_, layer) => architecture.blockParameters(config, layer));
  return new Set(specs.filter(({ router }) => router).map(({ name }) => name));
}

export interface OuterNames {
  embedding: ParameterSpec;
  norm: ParameterSpec;
  /** The head, or the embedding when tied. */
  head: ParameterSpec;
  tied: boolean;
}

export function outerNames({ model }: Network): OuterNames {
  const { embedding, norm, head } = model.architecture.outerParameters(model.config);
  return { embedding, norm, head: head ?? embedding, tied: head === null };
}

/** Final norm and head in compute form. */
export function openHead(network: Network): OpenWeights {
  const { norm, head } = outerNames(network);
  const parameters: Parameters = { [norm.name]: network.model.outer[norm.name], [head.name]: network.model.outer[head.name] };
  return new OpenWeights(parameters, [norm, head], network.computeDtype);
}

/** The first block's input streams for these tokens. */
export function beginStreams(network: Network, tokens_T: Int32Array): Tensor[] {
  const { coupling, format, device, model } = network;
  return scope(() => {
    const indices_T = fromArray(tokens_T, [tokens_T.length], "int64", device);
    const x_TD = embedding(model.outer[outerNames(network).embedding.name], indices_T);
    return coupling.begin(cast(x_TD, format.floatDtype), format);
  });
}
