// Which experts a token goes to. Recomputation must repeat the choice of the first pass: else scores close to a tie
// would flip and silently change the function that is differentiated. So each layer's choice is kept (one byte per
// token and choice up to 256 experts) and replayed; the gate values are recomputed, with their gradient.
import { detach } from "../torch/autograd.js";
import { isCpu } from "../torch/device.js";
import { cast, cat, narrow, topk } from "../torch/ops.js";
import { free, keep, scope } from "../torch/scope.js";
import { byteSize, device, shape, toArray, type Tensor, to } from "../torch/tensor.js";

/**
 * In all families, the name of the numbers that move the choice of experts and nothing else: one per expert, a buffer.
 */
export const CHOICE_CORRECTION = "mlp.gate.e_score_correction_bias";

export interface Routing {
  /**
   * The experts of each token, indices_TA (int64): those of the largest scores. `scores_TE` is called only if the
   * choice is not known yet.
   */
  choose(layer: number, scores_TE: () => Tensor, expertsPerToken: number): Tensor;
  /**
   * Notes how many rows of a layer each expert gets. Returns the counts in main memory if they are known there already,
   * else null.
   */
  counted(layer: number, counts_E: Tensor): Tensor | null;
  /** The routing of the tokens from `first` on, which have choices of their own. */
  from(first: number): Routing;
}

/** Sees the router's raw logits while training, for losses on them; see `Context.routerObserver`. */
export interface RouterObserver {
  /** Called once for every tile of tokens; where a graph is recorded, the losses become part of it. */
  observe(layer: number, logits_TE: Tensor, probabilities_TE: () => Tensor): void;
}

const pick = (scores_TE: () => Tensor, expertsPerToken: number): Tensor => topk(scores_TE(), expertsPerToken, -1)[1];

/** Chooses anew at every call; for evaluation and generation. */
export const freshRouting: Routing = {
  choose: (_layer, scores_TE, expertsPerToken) => pick(scores_TE, expertsPerToken),
  counted: () => null,
  from: () => freshRouting,
};

/**
 * Chooses at the first call for a layer and a first token, and replays at later ones. Counts of all layers are read at
 * once, so recomputation does not wait for a GPU to count. Owns the kept choices and counts until `free`.
 */
export class RecordedRouting implements Routing {
  /** Choices by layer, then by first token. */
  readonly #chosen = new Map<number, Map<number, Tensor>>();
  /**
   * Each expert's counts, by layer and first token. They lie on the device until `counts` moves them to main memory; on
   * a CPU it frees them.
   */
  readonly #counts = new Map<number, Map<number, Tensor>>();
  #sent: Map<number, number[]> | null = null;
  /** Whether reading counts waits for their device. */
  #isApart = false;

  constructor(readonly numExperts: number) {}

  from(first: number): Routing {
    return {
      choose: (layer, scores_TE, choices) => this.choose(layer, scores_TE, choices, first),
      counted: (layer, counts_E) => this.counted(layer, counts_E, first),
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

  counted(layer: number, counts_E: Tensor, first = 0): Tensor | null {
    const tiles = this.#counts.get(layer) ?? new Map<number, Tensor>();
    if (this.#sent === null) {
      if (!tiles.has(first)) this.#counts.set(layer, tiles.set(first, keep(detach(counts_E))));
      return null;
    }
    return tiles.get(first) ?? null;
  }

  /** Tokens sent to each expert, by layer. The first call waits for a GPU and fixes the counts. */
  counts(): ReadonlyMap<number, number[]> {
    if (this.#sent !== null) return this.#sent;
    this.#bringCounts();
    this.#sent = new Map(
      [...this.#counts].map(([layer, tiles]) => {
        const counts = [...tiles.values()].map((counts_E) => toArray(counts_E));
        const sent = Array.from({ length: this.numExperts }, (_, expert) =>
          counts.reduce((sum, each) => sum + each[expert], 0),
        );
        return [layer, sent];
      }),
    );
    if (!this.#isApart) this.#freeCounts();
    return this.#sent;
  }

  get bytes(): number {
    return tensorsIn(this.#chosen).reduce((total, chosen) => total + byteSize(chosen), 0);
  }

  free(): void {
    free(...tensorsIn(this.#chosen));
    this.#chosen.clear();
    this.#freeCounts();
  }

  #freeCounts(): void {
    free(...tensorsIn(this.#counts));
    this.#counts.clear();
  }

  /** Moves all counts to main memory, by one copy. */
  #bringCounts(): void {
    const noted = [...this.#counts.values()].flatMap((tiles) =>
      [...tiles].map(([first, counts_E]) => ({ tiles, first, counts_E })),
    );
    this.#isApart = noted.length > 0 && !isCpu(device(noted[0].counts_E));
    if (!this.#isApart) return;
    scope(() => {
      const all = to(cat(noted.map(({ counts_E }) => counts_E)), "int64");
      let place = 0;
      for (const { tiles, first, counts_E } of noted) {
        const [experts] = shape(counts_E);
        tiles.set(first, keep(narrow(all, 0, place, experts)));
        place += experts;
        free(counts_E);
      }
    });
  }
}

const tensorsIn = (kept: Map<number, Map<number, Tensor>>): Tensor[] =>
  [...kept.values()].flatMap((tiles) => [...tiles.values()]);
