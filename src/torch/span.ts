// Names for what is being done, so that memory, and running out of it, can be told by what needed it.

let moment = "";

export const currentMoment = (): string => moment;

/** An error with the innermost moment in which it happened. */
export interface Timed {
  moment?: string;
}

/** Runs `fn` as the moment `name`; the moments around it go on when it returns. */
export function during<Result>(name: string, fn: () => Result): Result {
  const before = moment;
  moment = name;
  try {
    return fn();
  } catch (failure) {
    if (failure instanceof Error) (failure as Timed).moment ??= name;
    throw failure;
  } finally {
    moment = before;
  }
}
