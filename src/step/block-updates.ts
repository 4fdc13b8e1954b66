// Gradients of a step from their first zero to the update: one block's at a time, summed over ranks, clipped, applied and freed; of its experts,
// where asked, a group's at a time. Owns what is on its way to a sum, and by `LiveGradients` every gradient, until they are applied, or `close`.
// Without optimiser states it only measures.
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
  /** What else changes a part when it is updated, behind the optimizer. */
  also?: (part: number, parameters: Parameters, change: Change) => void;
  /** Those that make the step together, each with its share of the micro-batches; one process by itself unless said otherwise. */
  ranks?: Collectives;
  /** How they add up gradients; see `SumOrder`. */
  sumOrder?: SumOrder;
}

/** What `apply` is given. */
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
  /** What was thrown over whole gradients, as on every rank. */
  #known: unknown = null;
  #squaredNorm = 0;

  constructor(states: OptimizerStates | null, options: UpdateOptions, place: UpdatePlace) {
    this.#place = place;
    this.#states = states;
    this.#options = options;
    this.#live = new LiveGradients(place, options.expertGroupSize ?? 0);
    this.#sums = (options.ranks ?? ALONE).sums(
      states === null ? NO_ROWS : place.store.sharing?.needed,
      // Ranks whose rows meet are at the same block at the same time.
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

  /** Bytes of the most gradients, and rows in their place, that were alive at once. */
  get peakBytes(): number {
    return this.#live.peakBytes;
  }

  /** Whether sums of gradients begin on this rank, and not with what another has added. */
  get beginsSums(): boolean {
    return this.#sums.beginsHere;
  }

  /** Gradients for some parameters of a part: zero, or anything where sums begin here and are written first, or what other ranks have added already. */
  begin(part: number, parameters: Parameters, isUnfilled?: (name: string) => boolean): Parameters {
    this.#sums.enter();
    const gradients = this.#live.make(parameters, this.beginsSums ? isUnfilled : undefined);
    this.#sums.begin(part, this.#live.summed(gradients));
    return gradients;
  }

  /**
   * The same for those of a block, where gradients of experts hold anything until they are written (`finishGradients`), with a place for rows of
   * its experts where these go in groups.
   */
  beginBlock(layer: number, parameters: Parameters): BlockGradients {
    const live = this.#live;
    const kept = Object.fromEntries(Object.entries(parameters).filter(([name]) => !live.inGroups(name)));
    const whole = this.begin(layer, kept, (name) => live.isWrittenFirst(name));
    return { whole, rows: live.makeRows(parameters) };
  }

  /**
   * Clips and applies the gradients of a part (see store/store.ts), or those of them in `names`, then frees them; where other ranks add to them,
   * that is later, at `finish` at the latest. Before, `look` is called.
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

  /** This rank has added what it has at first to a gradient that is added to once more, from the first rank on, after `resume`. */
  pause(part: number, gradients: Parameters): void {
    this.#sums.pause(part, gradients);
  }

  resume(part: number, gradients: Parameters): void {
    this.#sums.enter();
    this.#sums.resume(part, gradients);
  }

  /** Every rank's value, in their order. */
  gather<T>(value: T): T[] {
    return (this.#options.ranks ?? ALONE).gather(value);
  }

  /** Bad values that this rank alone has met would be mended here, while the others wait: then the run ends. */
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

  /** Everything that was given to `apply` is applied. */
  finish(): void {
    this.#sums.finish();
  }

  /** `wholeNorm` is that of what is no row. */
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
    // Experts in groups are measured first only where the clip factor needs their norm, since that makes their gradients twice.
    const isMeasured = maxBlockGradNorm > 0;
    const norm = isMeasured ? this.#measure(of, known) : known;
    const own = seedFor(seed, step, part + 2);
    // For optimizers that draw.
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

  /** Adds the norms of experts whose gradients are made of rows. */
  #measure({ parameters, gradients }: PartGradients, norm: PartNorm): PartNorm {
    this.#live.forExperts(gradients.rows, parameters, (_name, _first, gradient) => norm.add(gradientNorm([gradient])));
    return norm;
  }

  close(): void {
    this.#sums.close();
    this.#live.close();
  }
}
