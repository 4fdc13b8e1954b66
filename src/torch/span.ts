// Names for what is being done, so that memory, and running out of it, can be told by what needed it.

let span = "";

export const currentSpan = (): string => span;

/** An error with the innermost span in which it happened. */
export interface Timed {
  span?: string;
}

/** Runs `fn` as the span `name`; the spans around it go on when it returns. */
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
