// What gradients of routed experts are made of, kept so that they can be made later, a few experts at a time: for every
// tile of tokens, the rows that entered each product and the gradients that came back to it. Where an expert gets far
// fewer rows than it has columns, they take far less than the gradients. Owns what it keeps until `free`.
import { detach } from "../torch/autograd.js";
import { hasKernels } from "../torch/kernels/kernels.js";
import { cast, type ExpertActivation, expertGradients_, groupedExperts, reshape, unbind } from "../torch/ops.js";
import { forEachTile } from "../torch/repeat.js";
import { free, keep, scope } from "../torch/scope.js";
import { byteSize, device, dtype, empty, shape, type Tensor } from "../torch/tensor.js";

/** Names of the stacked matrices of routed experts, in all families. */
export const EXPERT_MATRICES = { gateUp: "mlp.experts.gate_up_proj", down: "mlp.experts.down_proj" } as const;

/** Whether a parameter of a block is one of these. */
export const isExpertMatrix = ({ name }: { name: string }): boolean =>
  name === EXPERT_MATRICES.gateUp || name === EXPERT_MATRICES.down;

/** Names of the experts' stacked biases, which only some families have. */
export const EXPERT_BIASES = {
  gateUp: `${EXPERT_MATRICES.gateUp}_bias`,
  down: `${EXPERT_MATRICES.down}_bias`,
} as const;

/** All of these names, in the order in which `groupedExperts` takes them. */
export const EXPERT_PARAMETERS: readonly string[] = [EXPERT_MATRICES, EXPERT_BIASES].flatMap((names) =>
  Object.values(names),
);

/** The function between an expert's two products; native/experts/expert_activation.hpp has the equations. */
export type Activation =
  | { name: Exclude<ExpertActivation, "clamped_swiglu"> }
  | { name: "clamped_swiglu"; limit: number; alpha: number };

/** The weights of a layer's experts, each in a tensor of its own. */
export interface Experts {
  /** Gate and up in one matrix each: rows 0..F-1 are the gate. */
  gateUp: Tensor[];
  down: Tensor[];
  /** Empty, or the biases of gate and up of every expert, then those of down. */
  biases: Tensor[];
  activation: Activation;
  /** See `written` of `Weights`. */
  written?: Tensor | null;
}

/** The experts of a layer, of which other ranks hold some. */
export interface ExpertsElsewhere {
  /**
   * Like `expertsOutput` for all experts of a layer. When recorded, `x_TD` and the gates must have a gradient, and no
   * other use.
   */
  output(x_TD: Tensor, choices: Omit<Choices, "known_E">, layer: number): Tensor;
}

/**
 * Which experts tokens go to: their gates, the row of each choice when rows are sorted by expert, and each expert's
 * number of rows.
 */
export interface Choices {
  gates_TA: Tensor;
  places_TA: Tensor;
  counts_E: Tensor;
  /** counts_E in main memory, if they are known there. */
  known_E: Tensor | null;
}

/** y_t = sum_a gate_ta expert_a(x_t): the experts' outputs, weighted and summed for each token, [T, D]. */
export function expertsOutput(x_TD: Tensor, choices: Choices, experts: Experts, kept: Tensor[] = []): Tensor {
  const { gateUp, down, biases, activation, written = null } = experts;
  const { gates_TA, places_TA, counts_E, known_E } = choices;
  const isWide = dtype(x_TD) === "float64";
  const gates = cast(gates_TA, isWide ? "float64" : "float32");
  const rest: [name: ExpertActivation, interleaved?: boolean, limit?: number, alpha?: number] =
    activation.name === "clamped_swiglu"
      ? [activation.name, false, activation.limit, activation.alpha]
      : [activation.name];
  const fused = !isWide && hasKernels(device(x_TD));
  return groupedExperts(x_TD, gates, places_TA, counts_E, known_E, gateUp, down, biases, kept, written, fused, ...rest);
}

/** Rows sorted by expert, and each expert's number of rows. */
interface Tile {
  x_RD: Tensor;
  dBoth_R2F: Tensor;
  inner_RF: Tensor;
  dy_RD: Tensor;
  counts_E: Tensor;
  /** Owned by the routing. */
  known_E: Tensor | null;
}

const ownOf = ({ known_E: _, ...own }: Tile): Tensor[] => Object.values(own);

export class ExpertRows {
  readonly #tiles: Tile[] = [];

  /**
   * Like `expertsOutput`, but the backward pass keeps rows and makes no gradient of a weight. Only inside a recording
   * that is differentiated.
   */
  output(x_TD: Tensor, choices: Choices, experts: Experts): Tensor {
    return scope(() => {
      const [width, inner] = shape(experts.down[0]);
      const [rows] = shape(reshape(choices.places_TA, [-1]));
      const [x_RD, dBoth_R2F, inner_RF, dy_RD] = [width, shape(experts.gateUp[0])[0], inner, width].map((columns) =>
        empty([rows, columns], dtype(x_TD), device(x_TD)),
      );
      const y_TD = expertsOutput(x_TD, choices, experts, [x_RD, dBoth_R2F, inner_RF, dy_RD]);
      const { counts_E, known_E } = choices;
      const tile = {
        x_RD,
        dBoth_R2F,
        inner_RF,
        dy_RD,
        counts_E: detach(counts_E),
        known_E,
      };
      this.#tiles.push(tile);
      for (const tensor of ownOf(tile)) keep(tensor);
      return y_TD;
    });
  }

  /**
   * Calls `work` with the float32 gradients of each stacked matrix in `parameters`, for `size` experts at a time;
   * `first` is the first of these experts.
   */
  forGroups(
    parameters: Record<string, Tensor>,
    size: number,
    work: (name: string, first: number, gradient: Tensor) => void,
  ): void {
    for (const name of Object.values(EXPERT_MATRICES)) {
      const [experts] = shape(parameters[name]);
      forEachTile(experts, size, (first, count) =>
        scope(() => work(name, first, this.#gradient(name, shape(parameters[name]), first, count))),
      );
    }
  }

  get bytes(): number {
    return this.#tensors().reduce((sum, tensor) => sum + byteSize(tensor), 0);
  }

  free(): void {
    free(...this.#tensors());
    this.#tiles.length = 0;
  }

  #tensors(): Tensor[] {
    return this.#tiles.flatMap(ownOf);
  }

  /** dW_e = dy_e' x_e for each of `count` experts, summed over the tiles in order. */
  #gradient(name: string, [, height, width]: number[], first: number, count: number): Tensor {
    const sums_EHW = empty([count, height, width], "float32", device(this.#tiles[0].x_RD));
    scope(() => {
      const sums = unbind(sums_EHW, 0);
      const fused = hasKernels(device(sums_EHW));
      for (const [i, { x_RD, dBoth_R2F, inner_RF, dy_RD, counts_E, known_E }] of this.#tiles.entries()) {
        const [dOut, into] = name === EXPERT_MATRICES.down ? [dy_RD, inner_RF] : [dBoth_R2F, x_RD];
        expertGradients_(sums, dOut, into, counts_E, known_E, first, i > 0, fused);
      }
    });
    return sums_EHW;
  }
}
