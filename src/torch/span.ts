// Names for the work in progress, so that figures of memory, and errors for lack of it, name the work that needed it.

let span = "";

export const currentSpan = (): string => span;

/** An error with the innermost span in which it happened. */
export interface Timed {
  span?: string;
}

/** Runs `fn` as the span `name`; afterwards the span around it continues. */
export function during<Result>(name: string, fn: () => Result): Result {
  const before = span;
  span = name;
  try {
    return fn();
  } catch (failure) {
    if (failure instanceof Error) (failure as Timed).span ??= name;
    throw failure;
  } finally {
    span = before;
  }
}
