// Who frees a tensor: the innermost open scope, unless the tensor is returned from it (then the scope around it does)
// or kept (then the caller does). Scopes are synchronous and nest; the garbage collector plays no part.
import { native } from "./binding.js";
import type { Tensor } from "./tensor.js";

type Kept = Tensor | null | undefined | boolean | string | readonly Kept[] | { readonly [key: string]: Kept };

/**
 * Runs `fn` and frees every tensor made inside, except those in its result: a tensor, or arrays and records of tensors.
 * Throws if `fn` returns a promise: tensors made after an await would belong to nobody.
 */
export function scope<Result>(fn: () => Result): Result {
  native.scopeOpen();
  const kept: number[] = [];
  try {
    const result = fn();
    if (result instanceof Promise) throw new TypeError("scope: the function must be synchronous, not return a promise");
    collect(result as Kept, kept);
    return result;
  } finally {
    native.scopeClose(kept);
  }
}

// The native side ignores numbers that are not live handles, so records may have plain numbers, too.
function collect(value: Kept, into: number[]): void {
  if (typeof value === "number") {
    if (native.isAlive(value)) into.push(value);
  } else if (Array.isArray(value)) {
    for (const inner of value) collect(inner, into);
  } else if (value instanceof Map) {
    for (const inner of value.values()) collect(inner, into);
  } else if (value && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
    for (const inner of Object.values(value)) collect(inner as Kept, into);
  }
}

/** Takes a tensor out of all scopes: from now on the caller frees it. */
export function keep<T extends Tensor>(t: T): T {
  native.keep(t);
  return t;
}

/** Frees tensors at once; freeing one twice is an error. */
export function free(...tensors: Tensor[]): void {
  native.free(...tensors);
}

export const isAlive = (t: Tensor): boolean => native.isAlive(t);
