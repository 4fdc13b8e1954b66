// The course of a loss, and whether a new value is far above it. It is measured by medians, which one spike does not
// move.
import { median } from "../../metrics/sinks/console.js";

/** A median, and the spread around it: the standard deviation, if losses are normally distributed. */
export interface Course {
  median: number;
  spread: number;
}

/** With fewer losses than this, there is no course. */
const FEWEST = 10;
/** For a normal distribution: standard deviation / median distance from the median. */
const SIGMAS = 1.4826;
/** Least spread, so that a course that hardly moves does not make every loss a spike. */
const LEAST_SPREAD = 0.02;

export class LossCourse {
  readonly #losses: number[] = [];

  constructor(
    readonly window: number,
    readonly threshold: number,
  ) {}

  /** Adds a loss to the course. Returns the course before it if the loss is far above, else null. */
  note(loss: number): Course | null {
    const course = this.#losses.length < FEWEST ? null : courseOf(this.#losses);
    this.#losses.push(loss);
    if (this.#losses.length > this.window) this.#losses.shift();
    return course !== null && this.threshold > 0 && loss > course.median + this.threshold * course.spread
      ? course
      : null;
  }

  /** Begins a new course, for a phase with another loss. */
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
