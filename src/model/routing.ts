// Which experts a token goes to. Recomputation must repeat the choice of the first pass: probabilities close to a tie
// would else flip and silently change the function that is differentiated. So the choice of each layer is kept (one byte
// per token and choice up to 256 experts) and replayed; the gate values are recomputed, with their gradient.
import { bincount, cast, reshape, topk } from "../torch/ops.js";
import { free, keep, scope } from "../torch/scope.js";
import { byteSize, toArray, type Tensor } from "../torch/tensor.js";

export interface Routing {
  /** probabilities_TE -> indices_TA (int64) of the experts of each token. */
  choose(layer: number, probabilities_TE: Tensor, expertsPerToken: number): Tensor;
}

/** Sees the router's raw logits while training, for losses on them; see `Context.routerObserver`. */
export interface RouterObserver {
  observe(layer: number, logits_TE: Tensor, probabilities_TE: Tensor): void;
  /**
   * The logits of `layer` that were seen with a graph since the last call, and the gradients of the losses on them. The
   * caller frees both.
   */
  roots(layer: number): { outputs: Tensor[]; gradients: Tensor[] };
}

const pick = (probabilities_TE: Tensor, expertsPerToken: number): Tensor => topk(probabilities_TE, expertsPerToken, -1)[1];

/** Chooses anew at every call: evaluation and generation. */
export const freshRouting: Routing = {
  choose: (_layer, probabilities_TE, expertsPerToken) => pick(probabilities_TE, expertsPerToken),
};

/** Chooses at the first call of a layer and replays at every later one. Owns the kept choices until `free`. */
export class RecordedRouting implements Routing {
  readonly #chosen = new Map<number, Tensor>();

  constructor(readonly numExperts: number) {}

  choose(layer: number, probabilities_TE: Tensor, expertsPerToken: number): Tensor {
    const known = this.#chosen.get(layer);
    if (known !== undefined) return cast(known, "int64");
    const chosen = pick(probabilities_TE, expertsPerToken);
    this.#chosen.set(layer, keep(cast(chosen, this.numExperts <= 256 ? "uint8" : "int16", false, true)));
    return chosen;
  }

  /** Tokens sent to each expert, per layer. */
  counts(): Map<number, number[]> {
    return scope(() => {
      const counts = new Map<number, number[]>();
      for (const [layer, chosen] of this.#chosen) {
        counts.set(layer, toArray(bincount(reshape(cast(chosen, "int64"), [-1]), null, this.numExperts)));
      }
      return counts;
    });
  }

  get bytes(): number {
    return [...this.#chosen.values()].reduce((total, chosen) => total + byteSize(chosen), 0);
  }

  free(): void {
    free(...this.#chosen.values());
    this.#chosen.clear();
  }
}
