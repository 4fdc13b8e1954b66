// Which experts a token goes to. Recomputation must repeat the choice of the first pass: scores close to a tie
// would else flip and silently change the function that is differentiated. So the choice of each layer is kept (one byte
// per token and choice up to 256 experts) and replayed; the gate values are recomputed, with their gradient.
import { bincount, cast, cat, reshape, topk } from "../torch/ops.js";
import { free, keep, scope } from "../torch/scope.js";
import { byteSize, toArray, type Tensor } from "../torch/tensor.js";

/** Name, in all families, of the numbers that move the choice of experts and nothing else: one for each, a buffer. */
export const CHOICE_CORRECTION = "mlp.gate.e_score_correction_bias";

export interface Routing {
  /** The experts of each token, indices_TA (int64): those of the largest scores for the choice, which are asked for where it is not known. */
  choose(layer: number, scores_TE: () => Tensor, expertsPerToken: number): Tensor;
  /** The routing of the tokens from `first` on, which are chosen for by themselves. */
  from(first: number): Routing;
}

/** Sees the router's raw logits while training, for losses on them; see `Context.routerObserver`. */
export interface RouterObserver {
  /** Called once for every tile of tokens; where a graph is recorded, the losses become a part of it. */
  observe(layer: number, logits_TE: Tensor, probabilities_TE: () => Tensor): void;
}

const pick = (scores_TE: () => Tensor, expertsPerToken: number): Tensor => topk(scores_TE(), expertsPerToken, -1)[1];

/** Chooses anew at every call: evaluation and generation. */
export const freshRouting: Routing = {
  choose: (_layer, scores_TE, expertsPerToken) => pick(scores_TE, expertsPerToken),
  from: () => freshRouting,
};

/** Chooses at the first call of a layer and a first token, and replays at every later one. Owns the kept choices until `free`. */
export class RecordedRouting implements Routing {
  /** By layer, then by first token. */
  readonly #chosen = new Map<number, Map<number, Tensor>>();

  constructor(readonly numExperts: number) {}

  from(first: number): Routing {
    return {
      choose: (layer, scores_TE, choices) => this.choose(layer, scores_TE, choices, first),
      from: (more) => this.from(first + more),
    };
  }

  choose(layer: number, scores_TE: () => Tensor, expertsPerToken: number, first = 0): Tensor {
    const tiles = this.#chosen.get(layer) ?? new Map<number, Tensor>();
    const known = tiles.get(first);
    if (known !== undefined) return cast(known, "int64");
    const chosen = pick(scores_TE, expertsPerToken);
    this.#chosen.set(
      layer,
      tiles.set(first, keep(cast(chosen, this.numExperts <= 256 ? "uint8" : "int16", false, true))),
    );
    return chosen;
  }

  /** Tokens sent to each expert, per layer. */
  counts(): Map<number, number[]> {
    return scope(() => {
      const counts = new Map<number, number[]>();
      for (const [layer, tiles] of this.#chosen) {
        const chosen = cat([...tiles.values()].map((tile) => reshape(tile, [-1])));
        counts.set(layer, toArray(bincount(cast(chosen, "int64"), null, this.numExperts)));
      }
      return counts;
    });
  }

  get bytes(): number {
    return this.#all().reduce((total, chosen) => total + byteSize(chosen), 0);
  }

  free(): void {
    free(...this.#all());
    this.#chosen.clear();
  }

  #all(): Tensor[] {
    return [...this.#chosen.values()].flatMap((tiles) => [...tiles.values()]);
  }
}
