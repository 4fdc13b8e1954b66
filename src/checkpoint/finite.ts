// Whether values are finite: one pass over a tensor, on its own device, with two scalars as the result.
import { UserError } from "../errors.js";
import { amax, amin, aminmax, isInf, isNan, sum } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { dtype, item, numel, type Tensor } from "../torch/tensor.js";

export type NotFinite = "NaN" | "an infinite value";

/** Weights or state that are not finite any more; nothing is saved with them. */
export class NotFiniteError extends UserError {
  constructor(
    readonly tensor: string,
    readonly value: NotFinite,
    message: string,
  ) {
    super(message);
  }
}

/** The largest absolute value; NaN if any value is. */
export function largestSize(value: Tensor): number {
  if (numel(value) === 0) return 0;
  return scope(() => {
    // On a CPU, libtorch 1.13 has no `aminmax` for float16.
    const [least, most] = (dtype(value) === "float16" ? [amin(value), amax(value)] : aminmax(value)).map(item);
    return Math.max(most, -least);
  });
}

/** What a tensor holds that is not finite; undefined if nothing, as in every tensor of whole numbers. */
export function notFinite(value: Tensor): NotFinite | undefined {
  if (!/float/.test(dtype(value))) return undefined;
  const size = largestSize(value);
  return Number.isFinite(size) ? undefined : Number.isNaN(size) ? "NaN" : "an infinite value";
}

/** How many values of a tensor are NaN, and how many are infinite. */
export function countNotFinite(value: Tensor): { nan: number; infinite: number } {
  if (notFinite(value) === undefined) return { nan: 0, infinite: 0 };
  return scope(() => ({ nan: item(sum(isNan(value))), infinite: item(sum(isInf(value))) }));
}

/** Errors: NotFiniteError, whose message begins with `where`, when a tensor holds a value that is not finite. */
export function checkFinite(value: Tensor, name: string, where: string): void {
  const found = notFinite(value);
  if (found === undefined) return;
  throw new NotFiniteError(name, found, `${where}: ${name} holds ${found} (expected finite numbers).`);
}
