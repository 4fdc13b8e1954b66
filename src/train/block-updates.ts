// Gradients of a step from their first zero to the update: one block's at a time, clipped, applied and freed. Owns every
// gradient it made until it is applied, or `close`. Without optimiser states it only measures them.
import { UserError } from "../errors.js";
import { makeGradients } from "../model/weights.js";
import type { Parameters } from "../model/model.js";
import type { Tier } from "../tiers/tier.js";
import { clipFactor, gradientNorm } from "../optim/clip.js";
import { during } from "../torch/moment.js";
import { seedFor, setSeed } from "../torch/random.js";
import { free } from "../torch/scope.js";
import { byteSize } from "../torch/tensor.js";
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
  seed: number;
}

/** Where gradients are made and updates happen. */
export interface UpdatePlace {
  device: string;
  tier?: Tier;
}

export class BlockUpdates {
  readonly #states: OptimizerStates | null;
  readonly #options: UpdateOptions;
  readonly #place: UpdatePlace;
  readonly #alive = new Set<Parameters>();
  #squaredNorm = 0;
  /** Bytes of the most gradients that were alive at once. */
  peakBytes = 0;

  constructor(states: OptimizerStates | null, options: UpdateOptions, place: UpdatePlace) {
    this.#place = place;
    this.#states = states;
    this.#options = options;
  }

  /** Norm of all gradients so far, before clipping. */
  get norm(): number {
    return Math.sqrt(this.#squaredNorm);
  }

  /** Gradients of zero for some parameters. */
  begin(parameters: Parameters): Parameters {
    const gradients = during("gradient", () => makeGradients(parameters, this.#place.device));
    this.#alive.add(gradients);
    const bytes = [...this.#alive].flatMap((each) => Object.values(each)).reduce((sum, tensor) => sum + byteSize(tensor), 0);
    this.peakBytes = Math.max(this.peakBytes, bytes);
    return gradients;
  }

  /** Clips and applies the gradients of a part (see tiers/tier.ts), then frees them. */
  apply(layer: number, parameters: Parameters, gradients: Parameters, names = Object.keys(gradients)): void {
    const { step, optimizerStep = step, learningRate, gradientScale: scale = 1, maxBlockGradNorm, seed } = this.#options;
    const tier = this.#states === null ? undefined : this.#place.tier;
    tier?.beginUpdate(layer);
    const norm = gradientNorm(names.map((name) => gradients[name]));
    if (!Number.isFinite(norm)) {
      throw new UserError(
        `step ${step}: the gradient of ${layer < 0 ? "the embedding or head" : `block ${layer}`} is not a finite number. Lower learning_rate or resume from the last checkpoint.`,
      );
    }
    this.#squaredNorm += norm * norm;
    setSeed(seedFor(seed, step, layer + 2));
    const gradientScale = scale * clipFactor(scale * norm, maxBlockGradNorm);
    during("optimizer update", () => {
      for (const name of names) {
        this.#states?.update(layer, name, parameters[name], gradients[name], { step: optimizerStep, learningRate, gradientScale });
      }
    });
    tier?.endUpdate(layer);
    for (const name of names) {
      free(gradients[name]);
      delete gradients[name];
    }
    if (Object.keys(gradients).length === 0) this.#alive.delete(gradients);
  }

  close(): void {
    for (const gradients of this.#alive) free(...Object.values(gradients));
    this.#alive.clear();
  }
}
