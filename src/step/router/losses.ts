// Losses on the router's raw logits z, over all S layers that route and all T tokens of a step: prompts count, padding
// does not exist, micro-batches are one. p = softmax(z) in float32; c_le tokens of layer l go to expert e; k choices:
//   aux, pooled  E sum_e F_e P_e, F_e = sum_l c_le / (S T), P_e the mean of p_e over layers and tokens: k at balance.
//                Switch Transformers, arXiv 2101.03961, eq. 4-6, as transformers' load_balancing_loss_func pools it
//   aux, layer   mean over layers of E/k sum_e f_le P_le, f_le = c_le / T, P_le of this layer: 1 at balance. As
//                Megatron-LM's switch_load_balancing_loss_func, which adds layers up: its coefficient is ours / S
//   z            mean over layers and tokens of logsumexp(z)^2: ST-MoE, arXiv 2202.08906, eq. 5
// Counts have no gradient. So with w_le = the factor of sum_t p_te above, dz = p (w - sum_j p_j w_j). This needs the
// counts, which are known after the forward pass; it is added where a block is differentiated. No logits are stored.
import { detach } from "../../torch/autograd.js";
import { addRoot } from "../../torch/graph.js";
import { add, cast, logsumexp, mul, mulScalar, softmax, square, sub, sumDim } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { device, dtype, fromArray, item, type Tensor, toArray } from "../../torch/tensor.js";
import { type Architecture, isRouted } from "../../model/architecture.js";
import type { RouterObserver } from "../../model/routing.js";
import { assert } from "../../errors.js";

export interface RouterLossSettings {
  /** Weight of the load-balancing loss; 0: none. */
  auxCoef: number;
  auxType: "pooled" | "layer";
  /** Weight of the z-loss; 0: none. */
  zCoef: number;
}

type Counts = ReadonlyMap<number, readonly number[]>;

/** What the routers of some micro-batches reported, by layer, in the order of their tiles. */
export interface Observed {
  /** For each tile: sum of each expert's probability over its tokens. */
  probabilitySums: ReadonlyMap<number, readonly number[][]>;
  /** For each tile: sum of logsumexp(z)^2 over its tokens. */
  squareSums: ReadonlyMap<number, readonly number[]>;
}

export const NOTHING_OBSERVED: Observed = { probabilitySums: new Map(), squareSums: new Map() };

/** The losses of one step; the routers of all micro-batches report to it. */
export class RouterLosses implements RouterObserver {
  /** What this rank's routers reported. */
  readonly observed = { probabilitySums: new Map<number, number[][]>(), squareSums: new Map<number, number[]>() };
  /** Sums over all ranks. */
  readonly #probabilitySums = new Map<number, number[]>();
  #squareSum = 0;
  #counts: Counts | null = null;

  constructor(
    readonly settings: RouterLossSettings,
    readonly architecture: Architecture,
    /** Tokens of the step. */
    readonly tokens: number,
  ) {}

  observe(layer: number, logits_TE: Tensor, probabilities_TE: () => Tensor): void {
    if (this.#counts === null) scope(() => this.#addSums(layer, detach(logits_TE), probabilities_TE));
    addRoot(logits_TE, () => this.#gradient(layer, logits_TE));
  }

  /**
   * Ends the forward pass: takes the tokens sent to each expert, by layer, and what all ranks have observed, in their
   * order. Gradients can be computed from now on. Sums run in the order of micro-batches, so they do not depend on the
   * ranks.
   */
  complete(counts: Counts, observed: readonly Observed[]): void {
    this.#counts = counts;
    for (const layer of new Set(observed.flatMap(({ probabilitySums }) => [...probabilitySums.keys()]))) {
      const sums = observed.flatMap(({ probabilitySums }) => probabilitySums.get(layer) ?? []);
      this.#probabilitySums.set(
        layer,
        sums.reduce((before, tile) => tile.map((sum, expert) => sum + before[expert])),
      );
    }
    for (const layer of new Set(observed.flatMap(({ squareSums }) => [...squareSums.keys()])))
      for (const sum of observed.flatMap(({ squareSums }) => squareSums.get(layer) ?? [])) this.#squareSum += sum;
  }

  /** Both losses without their coefficients; null where a coefficient is 0. */
  values(): { auxLoss: number | null; zLoss: number | null } {
    const { auxCoef, zCoef } = this.settings;
    const weighted = [...this.#probabilitySums].map(([layer, sums]) => dot(this.#weights(layer), sums));
    return {
      auxLoss: auxCoef > 0 ? weighted.reduce((total, value) => total + value, 0) : null,
      zLoss: zCoef > 0 ? this.#squareSum / this.#rows : null,
    };
  }

  #addSums(layer: number, logits_TE: Tensor, probabilities_TE: () => Tensor): void {
    const { auxCoef, zCoef } = this.settings;
    if (auxCoef > 0) {
      const sums = toArray(sumDim(detach(probabilities_TE()), [0], false, "float64"));
      note(this.observed.probabilitySums, layer, sums);
    }
    if (zCoef > 0) {
      const sum = item(sumDim(square(logsumexp(wide(logits_TE), [1])), [0], false, "float64"));
      note(this.observed.squareSums, layer, sum);
    }
  }

  /** S T: tokens times sparse layers. */
  get #rows(): number {
    return this.tokens * this.architecture.layers.filter(isRouted).length;
  }

  /** w_le: the auxiliary loss is sum_l sum_e w_le sum_t p_lte. */
  #weights(layer: number): number[] {
    const { count: E, perToken: k } = this.architecture.experts;
    const counts = this.#counts;
    assert(counts !== null, "the counts of the forward pass are missing");
    const ofLayer = counts.get(layer) ?? [];
    if (this.settings.auxType === "layer")
      return ofLayer.map((count) => ((E / k) * (count / this.tokens)) / this.#rows);
    return ofLayer.map((_, expert) => {
      const pooled = [...counts.values()].reduce((sum, each) => sum + each[expert], 0);
      return (E * (pooled / this.#rows)) / this.#rows;
    });
  }

  /** dz = p (auxCoef (w - sum_j p_j w_j) + zCoef 2/(S T) logsumexp(z)), in the dtype of the logits. */
  #gradient(layer: number, logits_TE: Tensor): Tensor {
    const { auxCoef, zCoef } = this.settings;
    return scope(() => {
      const z_TE = wide(logits_TE);
      const p_TE = softmax(z_TE, -1);
      const pulls: Tensor[] = [];
      if (auxCoef > 0) {
        const scaled = this.#weights(layer).map((weight) => auxCoef * weight);
        const w_E = fromArray(scaled, [scaled.length], dtype(p_TE), device(p_TE));
        pulls.push(sub(w_E, sumDim(mul(p_TE, w_E), [-1], true)));
      }
      if (zCoef > 0) pulls.push(mulScalar(logsumexp(z_TE, [1], true), (2 * zCoef) / this.#rows));
      return cast(
        mul(
          p_TE,
          pulls.reduce((a, b) => add(a, b)),
        ),
        dtype(logits_TE),
      );
    });
  }
}

function note<T>(lists: Map<number, T[]>, layer: number, value: T): void {
  lists.set(layer, [...(lists.get(layer) ?? []), value]);
}

const wide = (t: Tensor): Tensor => cast(t, dtype(t) === "float64" ? "float64" : "float32");
const dot = (a: number[], b: number[]): number => a.reduce((sum, value, i) => sum + value * b[i], 0);
