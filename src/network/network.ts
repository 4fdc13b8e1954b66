// A model seen through its couplings: the function that is trained, evaluated and sampled. Says which blocks pass which
// coupling together, and opens blocks (their weights in compute form), the embedding before them and the head behind
// them.
import { assert } from "../errors.js";
import type { Branch, Coupling } from "../reversible/coupling.js";
import type { Block, Net } from "../reversible/methods/method.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import type { Stage } from "../reversible/stages.js";
import { floatStreams, type StreamFormat } from "../reversible/streams.js";
import { bridged } from "../model/adapters.js";
import type { Context } from "../model/context.js";
import { readArchitecture } from "../families/registry.js";
import { layerParameters, type ParameterSpec } from "../model/architecture.js";
import type { TravelingExperts } from "./traveling/traveling-experts.js";
import { scaleEmbedding } from "../model/scales.js";
import type { ExpertRows, Experts } from "../model/expert-rows.js";
import type { Model, Parameters, Trains } from "../model/model.js";
import { OpenWeights } from "../model/weights.js";
import { HEAD, type ParameterStore } from "../store/store.js";
import { during } from "../torch/span.js";
import { scope } from "../torch/scope.js";
import { type DType, type Tensor, to } from "../torch/tensor.js";

/** How blocks are divided into units; by default each is a unit of the network's coupling. */
export interface Division {
  /** Number of blocks that the coupling passes as one function. */
  blocksPerStep: number;
  /** Numbers of blocks at both ends that stay ordinary: their inputs are kept while other blocks are rebuilt. */
  ordinaryFirst: number;
  ordinaryLast: number;
}

export interface Network {
  readonly model: Model;
  readonly coupling: Coupling;
  readonly format: StreamFormat;
  readonly division?: Division;
  readonly bitsOnHost?: boolean;
  readonly computeDtype: DType;
  /** The device that computes; parameters may lie elsewhere. */
  readonly device: string;
  /** Where parameters lie while no block uses them. */
  readonly store: ParameterStore;
  readonly lossTileTokens: number;
  /** Reads a block's parameter that the model does not hold; the caller's scope owns it. */
  readonly read?: (layer: number, name: string) => Tensor;
  /** Which parameters are trained; all by default. */
  readonly trains?: Trains;
  /** How many tokens pass a feed-forward layer at once; 0 or nothing: all. */
  readonly tileTokens?: number;
  /** Set where experts stay on the ranks that hold them. */
  readonly traveling?: TravelingExperts;
}

/** A run of blocks that pass one coupling. Between segments there is one hidden state, as in the ordinary network. */
export interface Segment extends Net {
  /** The layers of each unit, in order. */
  units: number[][];
  /** Whether it is an ordinary end of a network that is not ordinary. */
  ordinaryEnd: boolean;
}

export function segmentsOf({ model, coupling, format, division, bitsOnHost, tileTokens }: Network): Segment[] {
  const { blocksPerStep = 1, ordinaryFirst = 0, ordinaryLast = 0 } = division ?? {};
  const depth = model.architecture.layers.length;
  const plain = {
    coupling: ordinary,
    format: floatStreams(format.floatDtype === "float64" ? "float64" : "float32"),
    tileTokens,
    ordinaryEnd: true,
  };
  const last = depth - ordinaryLast;
  return [
    { ...plain, firstLayer: 0, units: unitsOf(0, ordinaryFirst, 1) },
    {
      coupling,
      format,
      bitsOnHost,
      tileTokens,
      ordinaryEnd: false,
      firstLayer: ordinaryFirst,
      units: unitsOf(ordinaryFirst, last, blocksPerStep),
    },
    { ...plain, firstLayer: last, units: unitsOf(last, depth, 1) },
  ].filter(({ units }) => units.length > 0);
}

function unitsOf(from: number, end: number, size: number): number[][] {
  const units: number[][] = [];
  for (let first = from; first < end; first += size) {
    units.push(Array.from({ length: Math.min(size, end - first) }, (_, i) => first + i));
  }
  return units;
}

/** The blocks in the order in which a pass opens them. */
export const forwardOrder = (segments: readonly Segment[]): number[] => segments.flatMap(({ units }) => units.flat());

export const backwardOrder = (segments: readonly Segment[]): number[] =>
  segments.toReversed().flatMap(({ units }) => units.toReversed().flat());

/** The same weights as the network that everyone runs: as other tools run `final/`. */
export function asOrdinary(network: Network): Network {
  const { model } = network;
  return {
    ...network,
    model: { ...model, architecture: readArchitecture(model.architecture.source, "config.json") },
    coupling: ordinary,
    format: floatStreams("float32"),
    division: undefined,
  };
}

/** The network to use when it is not trained: without training noise. */
export const asEvaluated = (network: Network): Network => (network.coupling.drawsSigns ? asOrdinary(network) : network);

/** Name of the span in which weights are brought into compute form. */
export const WEIGHTS_IN_USE = "weights in compute form";

/** The blocks of a unit with their weights open; `close` frees what opening made. */
export class OpenUnit implements Block<Context> {
  readonly #network: Network;
  readonly #weights: OpenWeights[];

  constructor(
    network: Network,
    readonly layers: number[],
  ) {
    const { architecture, blocks } = network.model;
    const { read = (layer, name) => blocks[layer][name], computeDtype, device, store, traveling } = network;
    this.#network = network;
    const open = (layer: number): OpenWeights =>
      store.load(layer, (inUse) => {
        const specs = layerParameters(architecture.layers[layer]);
        return new OpenWeights(
          (name) => inUse(read(layer, name)),
          specs,
          computeDtype,
          trainsIn(network, layer),
          device,
          traveling,
        );
      });
    this.#weights = during(WEIGHTS_IN_USE, () => layers.map(open));
  }

  stages(branch: Branch): Stage<Context>[] {
    const { adapters: sharing = "layer", layers } = this.#network.model.architecture;
    return this.layers.flatMap((index, i) => {
      const weights = this.#weights[i];
      const { adapters, attention, feedForward } = layers[index];
      const mixing: Stage<Context> = {
        tokenwise: false,
        span: "attention",
        evaluate: (h_TD, context, _first, memory_TD) =>
          adapters
            ? bridged(attention, { from: 1, to: 1 }, sharing, weights, h_TD, context, memory_TD ?? h_TD)
            : attention.evaluate(weights, h_TD, context),
      };
      const tokenwise: Stage<Context> = {
        tokenwise: true,
        span: "feed-forward",
        evaluate: (h_ND, context, first) => {
          const own = contextFrom(context, first);
          return adapters
            ? bridged(feedForward, { from: 1, to: 2 }, sharing, weights, h_ND, own)
            : feedForward.evaluate(weights, h_ND, own);
        },
      };
      return { attention: [mixing], feedForward: [tokenwise], both: [mixing, tokenwise] }[branch];
    });
  }

  /** The experts of one of its layers, which must route. */
  experts(layer: number): Experts {
    const { feedForward } = this.#network.model.architecture.layers[layer];
    const experts = feedForward.experts?.(this.#weights[this.layers.indexOf(layer)]);
    assert(experts !== undefined, `layer ${layer} does not route`);
    return experts;
  }

  /**
   * From now on, backward adds gradients of the i-th block to `whole` of `gradients[i]`, and keeps rows of its experts
   * in `rows` if it has them.
   */
  collectInto(gradients: { whole: Parameters; rows: ExpertRows | null }[], unfilled: boolean): void {
    for (const [i, { whole, rows }] of gradients.entries()) this.#weights[i].collectInto(whole, rows, unfilled);
  }

  /** To be called after the last backward: gradients of experts may hold anything until then. */
  finishGradients(): void {
    for (const weights of this.#weights) weights.finishGradients();
  }

  close(): void {
    for (const weights of this.#weights) weights.close();
  }
}

const trainsIn =
  ({ trains = () => true }: Network, layer: number) =>
  (name: string): boolean =>
    trains(layer, name);

/** The context of the tokens from `first` on, for a stage that treats each token by itself. */
const contextFrom = (context: Context, first: number): Context => ({
  ...context,
  routing: context.routing.from(first),
  jitter:
    context.jitter &&
    ((h_ND, layer) =>
      context.jitter!(h_ND, layer, {
        first: (context.spread?.first ?? 0) + first,
        tokens: tokensOf(context.segments),
      })),
});

const tokensOf = (segments: number[]): number => segments.reduce((sum, length) => sum + length, 0);

/** Names of the weights that choose experts. */
export const routerNames = ({ architecture: { layers } }: Model): ReadonlySet<string> =>
  new Set(layers.flatMap(layerParameters).flatMap(({ name, router }) => (router ? [name] : [])));

export interface OuterNames {
  embedding: ParameterSpec;
  norm: ParameterSpec;
  /** The head, or the embedding when tied. */
  head: ParameterSpec;
  tied: boolean;
}

export function outerNames({ model }: Network): OuterNames {
  const { embedding, norm, head } = model.architecture.outer;
  return { embedding, norm, head: head ?? embedding, tied: head === null };
}

/** Final norm and head in compute form. */
export function openHead(network: Network): OpenWeights {
  const { norm, head } = outerNames(network);
  const { computeDtype, device, model, store } = network;
  return store.load(
    HEAD,
    (inUse) =>
      new OpenWeights((name) => inUse(model.outer[name]), [norm, head], computeDtype, trainsIn(network, -1), device),
  );
}

/**
 * The hidden state in front of the first block, [T, D], in the float dtype of the streams. Only the rows needed are
 * read from the stored embedding.
 */
export function embed(network: Network, tokens_T: ArrayLike<number>): Tensor {
  const { format, device, model, store } = network;
  return scope(() => {
    const weight_VD = model.outer[outerNames(network).embedding.name];
    const embedded_TD = to(store.lookUp(weight_VD, tokens_T), format.floatDtype, device);
    return scaleEmbedding(model.architecture.scales, embedded_TD);
  });
}
