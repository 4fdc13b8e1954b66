// The two kinds of failure. A UserError is something the person at the keyboard can mend: the command line prints its
// one sentence without a stack and exits with 2. Anything else is a bug: stack, exit code 1.
// Grammar of a message: `where: what is wrong, with the value (expected what). What to do.`

export class UserError extends Error {
  override name = "UserError";
}

/**
 * Values that a computation cannot go on with: not finite, or beyond the range of the streams. `what` is the bare fact; whoever knows more of
 * where they come from makes another sentence of it.
 */
export class BadValuesError extends UserError {
  constructor(
    readonly what: string,
    readonly advice: string,
  ) {
    super(`${what} ${advice}`);
  }
}

/** Throws when an invariant of our own code is broken; never for input. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`internal: ${message}`);
}

/** The known name nearest to `name` by edit distance, or undefined when none is near enough to be a misspelling. */
export function nearestName(name: string, known: Iterable<string>): string | undefined {
  const plain = (word: string): string => word.toLowerCase().replaceAll(/[-_\s]/g, "");
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(plain(name), plain(candidate));
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(substitution, previous[j] + 1, row[j - 1] + 1));
    }
    previous = row;
  }
  return previous[b.length];
}
