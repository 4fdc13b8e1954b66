// Solves x = g(x) by iteration, for couplings whose inverse is implicit. It converges when g contracts, which nothing
// guarantees; so the outcome is reported. It is deterministic: a second call on the same bits ends in the same bits.
import { abs, add, amax, mul, mulScalar, sub, sum } from "../torch/ops.js";
import { free, scope } from "../torch/scope.js";
import { item, type Tensor } from "../torch/tensor.js";
import type { StreamFormat } from "./streams.js";

export interface SolverSettings {
  /** Most evaluations of g. */
  iterations: number;
  /** Stop when no element changes by more; 0: when nothing changes. */
  tolerance: number;
  /** Where to start: at the block's output, or at zero. */
  start: "output" | "zero";
  /** x + damping (g(x) - x); 1 is the plain iteration. */
  damping: number;
  /** Anderson acceleration with one earlier iterate (Anderson 1965; Walker and Ni 2011, algorithm AA with m = 1). */
  anderson: boolean;
}

export interface Solution {
  iterations: number;
  /** max |g(x) - x| at the last evaluation. */
  residual: number;
  /** Whether the last residual is above the tolerance and not smaller than the first. */
  diverged: boolean;
}

/** Stops when the residual has grown by this factor: further values would leave the range of numbers. */
const HOPELESS = 100;

/** An iterate x; `before` has g(x) and g(x) - x of the iterate before it, as floats. */
interface Iterate {
  x: Tensor;
  before: { g: Tensor; f: Tensor } | null;
}

/**
 * Returns the last iterate, for the caller's scope; it is a new tensor unless it is `start`. Where several ranks hold
 * the tokens and evaluate g together, `each` gathers their values, so that all mix alike and stop together.
 */
export function solve(
  g: (x: Tensor) => Tensor,
  start: Tensor,
  format: StreamFormat,
  settings: SolverSettings,
  each: (value: number) => number[] = (value) => [value],
): { x: Tensor; solution: Solution } {
  const { iterations, tolerance } = settings;
  let at: Iterate = { x: start, before: null };
  const residuals: number[] = [];
  for (let done = false; !done; ) {
    const next: Iterate = scope(() => {
      const value = g(at.x);
      const value_F = format.toFloat(value);
      const f = sub(value_F, format.toFloat(at.x));
      const residual = Math.max(...each(item(amax(abs(f)))));
      residuals.push(residual);
      const hopeless = !(residual < HOPELESS * Math.max(residuals[0], tolerance));
      done = residual <= tolerance || hopeless || residuals.length === iterations;
      if (done) return { x: value, before: null };
      return {
        x: format.fromFloat(mix(format.toFloat(at.x), { g: value_F, f }, at.before, settings, each)),
        before: { g: value_F, f },
      };
    });
    // In float streams an iterate and the value of g are the same tensor.
    const still = new Set([start, next.x, next.before?.g, next.before?.f]);
    free(
      ...new Set(
        [at.x, at.before?.g, at.before?.f].filter((old): old is Tensor => old !== undefined && !still.has(old)),
      ),
    );
    at = next;
  }
  const residual = residuals[residuals.length - 1];
  return {
    x: at.x,
    solution: { iterations: residuals.length, residual, diverged: residual > tolerance && !(residual < residuals[0]) },
  };
}

function mix(
  x: Tensor,
  now: { g: Tensor; f: Tensor },
  before: { g: Tensor; f: Tensor } | null,
  { damping, anderson }: SolverSettings,
  each: (value: number) => number[],
): Tensor {
  if (anderson && before !== null) {
    // theta minimises |f - theta (f - f_before)|; the iterate is the same mixture of the values of g.
    const change = sub(now.f, before.f);
    const inner = (a: Tensor): number => each(item(sum(mul(a, change)))).reduce((total, part) => total + part, 0);
    const size = inner(change);
    const theta = size > 0 ? inner(now.f) / size : 0;
    return sub(now.g, mulScalar(sub(now.g, before.g), theta));
  }
  return damping === 1 ? now.g : add(x, mulScalar(now.f, damping));
}
