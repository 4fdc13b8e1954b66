// Which evaluation of a run is the best so far, and whether to stop because none has been better for long. Checkpoints
// keep what it knows, so a resumed run decides like one that was not stopped. Owns nothing else.
import type { TrainSettings } from "../settings/settings.js";

type Wishes = Pick<
  TrainSettings,
  "load_best_model_at_end" | "metric_for_best_model" | "early_stopping_patience" | "early_stopping_threshold"
>;

export interface Evaluated {
  loss: number;
  accuracy: number;
}

/** The best evaluation, as a checkpoint keeps it. */
export interface BestSoFar {
  /** The step after which the best was measured. */
  step: number;
  /** Its loss, or its accuracy. */
  value: number;
  /** Number of evaluations in a row since then that were not better by the threshold. */
  without: number;
}

export class BestModel {
  readonly #settings: Wishes;
  #best: BestSoFar | null = null;

  /** `saved` is from a checkpoint; a value of another form counts as nothing. */
  constructor(settings: Wishes, saved: unknown = null) {
    this.#settings = settings;
    this.restore(saved);
  }

  restore(saved: unknown): void {
    const { step, value, without } = (saved ?? {}) as Partial<BestSoFar>;
    const whole = Number.isSafeInteger(step) && typeof value === "number" && Number.isSafeInteger(without);
    this.#best = whole ? { step: step as number, value, without: without as number } : null;
  }

  get best(): Readonly<BestSoFar> | null {
    return this.#best;
  }

  /** The step whose checkpoint must not be removed. */
  get neededStep(): number | undefined {
    return this.#settings.load_best_model_at_end ? this.#best?.step : undefined;
  }

  /** Whether early_stopping_patience evaluations in a row were no better. */
  get isExhausted(): boolean {
    const { early_stopping_patience: patience } = this.#settings;
    return patience > 0 && (this.#best?.without ?? 0) >= patience;
  }

  /**
   * Counts an evaluation, and returns whether it is the best so far; then call `keep`. As in transformers, the
   * threshold affects only the count.
   */
  count(evaluated: Evaluated): boolean {
    const value = this.#valueOf(evaluated);
    const gain = this.#best === null ? Number.POSITIVE_INFINITY : this.#gain(value, this.#best.value);
    if (!Number.isFinite(value)) return this.#goesWithout();
    if (this.#best !== null)
      this.#best.without = gain > this.#settings.early_stopping_threshold ? 0 : this.#best.without + 1;
    return gain > 0;
  }

  keep(step: number, evaluated: Evaluated): void {
    this.#best = { step, value: this.#valueOf(evaluated), without: this.#best?.without ?? 0 };
  }

  #goesWithout(): false {
    if (this.#best !== null) this.#best.without++;
    return false;
  }

  #valueOf = ({ loss, accuracy }: Evaluated): number =>
    this.#settings.metric_for_best_model === "eval_loss" ? loss : accuracy;

  #gain = (value: number, before: number): number =>
    this.#settings.metric_for_best_model === "eval_loss" ? before - value : value - before;
}
