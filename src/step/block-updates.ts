// Gradients of a step from their first zero to the update: one block's at a time, clipped, applied and freed; of its experts, where asked,
// a group's at a time, made from the rows that were kept. Owns every gradient and all rows until they are applied, or `close`.
// Without optimiser states it only measures.
import { BadValuesError } from "../errors.js";
import { EXPERT_MATRICES, ExpertRows } from "../model/expert-rows.js";
import { makeGradients } from "../model/weights.js";
import type { Parameters } from "../model/model.js";
import type { Tier } from "../store/store.js";
import { clipFactor, gradientNorm } from "../optim/clip.js";
import { during } from "../torch/span.js";
import { seedFor, setSeed } from "../torch/random.js";
import { free } from "../torch/scope.js";
import { byteSize, type Tensor } from "../torch/tensor.js";
import type { OptimizerStates } from "./optimizer-states.js";

export interface UpdateOptions {
  /** 1 for the first step. */
  step: number;
  /** Steps of the optimizer since its states were zero, this one included; `step` by default. */
  optimizerStep?: number;
  learningRate: number;
  /** Factor on every gradient, from the norm of them all; nothing for 1. */
  gradientScale?: number;
  /** Largest norm of one block's gradient; 0: no limit. */
  maxBlockGradNorm: number;
  /** Experts of a block whose gradients exist at a time; 0 or nothing: all. Where a limit needs their norm first, they are made twice. */
  expertGroupSize?: number;
  seed: number;
}

/** Where gradients are made and updates happen. */
export interface UpdatePlace {
  device: string;
  tier?: Tier;
}

/** A block's gradient on its way: whole tensors, and rows in place of those of its experts. */
export interface BlockGradients {
  whole: Parameters;
  rows: ExpertRows | null;
}

type ExpertWork = (name: string, firstExpert: number, gradient: Tensor) => void;

const bytesOf = (tensors: Tensor[]): number => tensors.reduce((sum, tensor) => sum + byteSize(tensor), 0);

export class BlockUpdates {
  readonly #states: OptimizerStates | null;
  readonly #options: UpdateOptions;
  readonly #place: UpdatePlace;
  readonly #alive = new Set<Parameters>();
  readonly #rows = new Set<ExpertRows>();
  #squaredNorm = 0;
  /** Bytes of the most gradients, and rows in their place, that were alive at once. */
  peakBytes = 0;

  constructor(states: OptimizerStates | null, options: UpdateOptions, place: UpdatePlace) {
    this.#place = place;
    this.#states = states;
    this.#options = options;
  }

  /** Whether gradients are applied, and not only measured. */
  get applies(): boolean {
    return this.#states !== null;
  }

  /** Norm of all gradients so far, before clipping. */
  get norm(): number {
    return Math.sqrt(this.#squaredNorm);
  }

  /** Gradients of zero for some parameters. */
  begin(parameters: Parameters): Parameters {
    const gradients = during("gradient", () => makeGradients(parameters, this.#place.device));
    this.#alive.add(gradients);
    this.#note();
    return gradients;
  }

  /** The same for those of a block, with a place for rows of its experts where these go in groups. */
  beginBlock(parameters: Parameters): BlockGradients {
    const grouped: string[] = this.#options.expertGroupSize ? Object.values(EXPERT_MATRICES) : [];
    const whole = this.begin(
      Object.fromEntries(Object.entries(parameters).filter(([name]) => !grouped.includes(name))),
    );
    if (!grouped.some((name) => name in parameters)) return { whole, rows: null };
    const rows = new ExpertRows();
    this.#rows.add(rows);
    return { whole, rows };
  }

  /** Clips and applies the gradients of a part (see store/store.ts), or those of them in `names`, then frees them. */
  apply(part: number, parameters: Parameters, { whole, rows }: BlockGradients, names = Object.keys(whole)): void {
    const {
      step,
      optimizerStep = step,
      learningRate,
      gradientScale: scale = 1,
      maxBlockGradNorm,
      seed,
    } = this.#options;
    const states = this.#states;
    const tier = states === null ? undefined : this.#place.tier;
    tier?.beginUpdate(part);
    let norm = 0;
    const measure = (gradients: Tensor[]): void => {
      norm = Math.hypot(norm, gradientNorm(gradients));
      if (Number.isFinite(norm)) return;
      throw new BadValuesError(
        `the gradient of ${part < 0 ? "the embedding or head" : `block ${part}`} is not a finite number.`,
        "Lower learning_rate or resume from the last checkpoint.",
      );
    };
    measure(names.map((name) => whole[name]));
    // Experts in groups are measured first only where the clip factor needs their norm, since that makes their gradients twice.
    const isMeasured = states === null || maxBlockGradNorm > 0;
    if (isMeasured) this.#forExperts(rows, parameters, (_name, _first, gradient) => measure([gradient]));
    setSeed(seedFor(seed, step, part + 2));
    const update = {
      step: optimizerStep,
      learningRate,
      gradientScale: scale * clipFactor(scale * norm, maxBlockGradNorm),
    };
    if (states !== null) {
      during("optimizer update", () => {
        for (const name of names) states.update(part, name, parameters[name], whole[name], update);
      });
      this.#forExperts(rows, parameters, (name, firstExpert, gradient) => {
        if (!isMeasured) measure([gradient]);
        during("optimizer update", () =>
          states.update(part, name, parameters[name], gradient, { ...update, firstExpert }),
        );
      });
    }
    this.#squaredNorm += norm * norm;
    tier?.endUpdate(part);
    for (const name of names) {
      free(whole[name]);
      delete whole[name];
    }
    if (Object.keys(whole).length === 0) this.#alive.delete(whole);
    if (rows === null) return;
    rows.free();
    this.#rows.delete(rows);
  }

  #forExperts(rows: ExpertRows | null, parameters: Parameters, work: ExpertWork): void {
    during("gradient", () =>
      rows?.forGroups(parameters, this.#options.expertGroupSize as number, (name, first, gradient) => {
        this.#note(byteSize(gradient));
        work(name, first, gradient);
      }),
    );
  }

  #note(more = 0): void {
    const gradients = [...this.#alive].flatMap((each) => Object.values(each));
    const bytes = [...this.#rows].reduce((sum, rows) => sum + rows.bytes, bytesOf(gradients) + more);
    this.peakBytes = Math.max(this.peakBytes, bytes);
  }

  close(): void {
    for (const gradients of this.#alive) free(...Object.values(gradients));
    for (const rows of this.#rows) rows.free();
    this.#alive.clear();
    this.#rows.clear();
  }
}
