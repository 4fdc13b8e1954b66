// Gradients of a step from zeros to the update: one block's at a time is summed over ranks, clipped, applied and freed;
// with `expertGroupSize`, its experts' group by group. Owns gradients that wait for a sum and, through `LiveGradients`,
// all others, until they are applied, or `close`. Without optimizer states it only measures.
import { BadValuesError, UserError } from "../errors.js";
import type { Parameters } from "../model/model.js";
import type { Change } from "../store/store.js";
import { clipFactor, gradientNorm, PartNorm } from "../optim/clip.js";
import { ToldError } from "../parallel/agreed.js";
import { ALONE, type Collectives, type GradientSums, NO_ROWS, type SumOrder } from "../parallel/collectives.js";
import { during } from "../torch/span.js";
import { seedFor, setSeed } from "../torch/random.js";
import { type BlockGradients, LiveGradients, type UpdatePlace } from "./block-gradients.js";
import type { OptimizerStates } from "./optimizer-states.js";

export interface UpdateOptions {
  /** 1 for the first step. */
  step: number;
  /** Steps of the optimizer since its states were zero, including this one; `step` by default. */
  optimizerStep?: number;
  learningRate: number;
  /** Factor on every gradient, computed from the norm of all of them; 1 by default. */
  gradientScale?: number;
  /** Largest norm of one block's gradient; 0: no limit. */
  maxBlockGradNorm: number;
  /**
   * How many experts of a block have gradients at a time; 0 or nothing: all. A limit that needs their norm makes them
   * twice.
   */
  expertGroupSize?: number;
  seed: number;
  /** Changes a part further, after the optimizer has updated it. */
  also?: (part: number, parameters: Parameters, change: Change) => void;
  /** The ranks that make the step together, each with its share of the micro-batches; one process by default. */
  ranks?: Collectives;
  /** How they add up gradients; see `SumOrder`. */
  sumOrder?: SumOrder;
}

/** The arguments of `apply`. */
interface PartGradients {
  part: number;
  parameters: Parameters;
  gradients: BlockGradients;
  names: string[];
}

export class BlockUpdates {
  readonly #states: OptimizerStates | null;
  readonly #options: UpdateOptions;
  readonly #place: UpdatePlace;
  readonly #live: LiveGradients;
  readonly #sums: GradientSums;
  /** An error that every rank has met over the same whole gradients. */
  #known: unknown = null;
  #squaredNorm = 0;

  constructor(states: OptimizerStates | null, options: UpdateOptions, place: UpdatePlace) {
    this.#place = place;
    this.#states = states;
    this.#options = options;
    this.#live = new LiveGradients(place, options.expertGroupSize ?? 0);
    this.#sums = (options.ranks ?? ALONE).sums(
      states === null ? NO_ROWS : place.store.sharing?.needed,
      // Ranks that send each other rows of tokens are at the same block at the same time.
      place.traveling ? "direct" : options.sumOrder,
    );
  }

  /** Whether gradients are applied, and not only measured. */
  get applies(): boolean {
    return this.#states !== null;
  }

  /** Norm of all gradients so far, before clipping. */
  get norm(): number {
    return Math.sqrt(this.#squaredNorm);
  }

  /** Most bytes of gradients, and of rows in their place, that were alive at once. */
  get peakBytes(): number {
    return this.#live.peakBytes;
  }

  /** Whether sums of gradients begin on this rank. If not, they begin with what another rank has added. */
  get beginsSums(): boolean {
    return this.#sums.beginsHere;
  }

  /**
   * Makes gradients for some parameters of a part. They hold what other ranks have added already. Where sums begin
   * here, they are zero, or anything for those that `isUnfilled` names.
   */
  begin(part: number, parameters: Parameters, isUnfilled?: (name: string) => boolean): Parameters {
    this.#sums.enter();
    const gradients = this.#live.make(parameters, this.beginsSums ? isUnfilled : undefined);
    this.#sums.begin(part, this.#live.summed(gradients));
    return gradients;
  }

  /**
   * `begin` for a block. Gradients of experts hold anything until they are written (`finishGradients`). Experts whose
   * gradients are made group by group get a place for rows instead.
   */
  beginBlock(layer: number, parameters: Parameters): BlockGradients {
    const live = this.#live;
    const kept = Object.fromEntries(Object.entries(parameters).filter(([name]) => !live.inGroups(name)));
    const whole = this.begin(layer, kept, (name) => live.isWrittenFirst(name));
    return { whole, rows: live.makeRows(parameters) };
  }

  /**
   * Clips and applies the gradients of a part (see store/store.ts), or only those in `names`, then frees them. Where
   * other ranks add to them, that happens later, at `finish` at the latest. `look` is called just before.
   */
  apply(
    part: number,
    parameters: Parameters,
    gradients: BlockGradients,
    names = Object.keys(gradients.whole),
    look: () => void = () => {},
  ): void {
    const own = Object.fromEntries(names.map((name) => [name, gradients.whole[name]]));
    const measure = (): number => gradientNorm(Object.values(own));
    this.#sums.end(part, this.#live.summed(own), measure, (norm) => {
      try {
        look();
        this.#apply({ part, parameters, gradients, names }, norm);
      } catch (failure) {
        this.#known = failure;
        throw failure;
      }
    });
  }

  /**
   * Passes on what this rank has added so far. After `resume`, all ranks add to the gradient again, from the first one
   * on.
   */
  pause(part: number, gradients: Parameters): void {
    this.#sums.pause(part, gradients);
  }

  resume(part: number, gradients: Parameters): void {
    this.#sums.enter();
    this.#sums.resume(part, gradients);
  }

  /** Every rank's value, in the order of ranks. */
  gather<T>(value: T): T[] {
    return (this.#options.ranks ?? ALONE).gather(value);
  }

  /**
   * What to throw for `failure`. One that this rank alone has met must end the run: recovery here would leave the
   * others waiting.
   */
  asKnown(failure: unknown): unknown {
    const { world } = this.#options.ranks ?? ALONE;
    if (world === 1) return failure;
    if (failure === this.#known || failure instanceof ToldError) {
      this.#sums.giveUp();
      return failure;
    }
    if (!(failure instanceof BadValuesError)) return failure;
    return new UserError(`${failure.message} One rank of ${world} has met this alone, so the run ends.`);
  }

  /** Waits until everything that was given to `apply` is applied. */
  finish(): void {
    this.#sums.finish();
  }

  /** `wholeNorm` is the norm of the whole gradients, without experts in groups. */
  #apply(of: PartGradients, wholeNorm: number): void {
    const { part, gradients, names } = of;
    const states = this.#states;
    const known = new PartNorm(part, wholeNorm);
    const norm =
      states === null
        ? this.#measure(of, known).value
        : this.#place.store.update(part, (change) => this.#update(of, { known, states, change }));
    this.#squaredNorm += norm * norm;
    this.#live.free(gradients, names);
  }

  /** Returns the norm of the part's gradients before clipping. */
  #update(
    of: PartGradients,
    { known, states, change }: { known: PartNorm; states: OptimizerStates; change: Change },
  ): number {
    const { part, parameters, gradients, names } = of;
    const {
      step,
      optimizerStep = step,
      learningRate,
      gradientScale: scale = 1,
      maxBlockGradNorm,
      seed,
    } = this.#options;
    // Experts in groups are measured first only where the clip factor needs their norm: it makes their gradients twice.
    const isMeasured = maxBlockGradNorm > 0;
    const norm = isMeasured ? this.#measure(of, known) : known;
    const own = seedFor(seed, step, part + 2);
    // For optimizers that draw random numbers.
    setSeed(own);
    const update = {
      step: optimizerStep,
      learningRate,
      gradientScale: scale * clipFactor(scale * norm.value, maxBlockGradNorm),
      seed: own,
      change,
    };
    during("optimizer update", () => {
      for (const name of names) states.update(part, name, parameters[name], gradients.whole[name], update);
    });
    this.#live.forExperts(gradients.rows, parameters, (name, firstExpert, gradient) => {
      if (!isMeasured) norm.add(gradientNorm([gradient]));
      during("optimizer update", () =>
        states.update(part, name, parameters[name], gradient, { ...update, firstExpert }),
      );
    });
    this.#options.also?.(part, parameters, change);
    return norm.value;
  }

  /** Adds the norms of the experts whose gradients are made of rows. */
  #measure({ parameters, gradients }: PartGradients, norm: PartNorm): PartNorm {
    this.#live.forExperts(gradients.rows, parameters, (_name, _first, gradient) => norm.add(gradientNorm([gradient])));
    return norm;
  }

  close(): void {
    this.#sums.close();
    this.#live.close();
  }
}
