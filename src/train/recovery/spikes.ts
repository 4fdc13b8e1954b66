// The course of a loss, and whether the next value is far above it: measured by medians, which one spike does not move.
import { median } from "../../metrics/sinks/console.js";

/** A median and the spread about it, as a standard deviation where losses are normal. */
export interface Course {
  median: number;
  spread: number;
}

/** Below this many losses there is no course. */
const FEWEST = 10;
/** Of a normal distribution, the standard deviation over the median distance from the median. */
const SIGMAS = 1.4826;
/** A course that hardly moves must not make a spike of everything. */
const LEAST_SPREAD = 0.02;

export class LossCourse {
  readonly #losses: number[] = [];

  constructor(
    readonly window: number,
    readonly threshold: number,
  ) {}

  /** Adds a loss to the course; the course before it when it is far above, else null. */
  note(loss: number): Course | null {
    const course = this.#losses.length < FEWEST ? null : courseOf(this.#losses);
    this.#losses.push(loss);
    if (this.#losses.length > this.window) this.#losses.shift();
    return course !== null && this.threshold > 0 && loss > course.median + this.threshold * course.spread
      ? course
      : null;
  }

  /** A phase with another loss begins. */
  restart(): void {
    this.#losses.length = 0;
  }
}

function courseOf(losses: readonly number[]): Course {
  const middle = median(losses);
  return {
    median: middle,
    spread: Math.max(SIGMAS * median(losses.map((loss) => Math.abs(loss - middle))), LEAST_SPREAD * Math.abs(middle)),
  };
}
