// The two kinds of failure. A UserError is something the user can fix: the command line prints its one sentence without
// a stack and exits with 2. Anything else is a defect: stack, exit code 1.
// Grammar of a message: `where: what is wrong, with the value (expected what). What to do.`

export class UserError extends Error {
  override name = "UserError";
}

/**
 * Values with which a computation cannot continue: not finite, or beyond the range of the streams. `what` is the bare
 * fact; code that knows more about their origin makes another sentence of it.
 */
export class BadValuesError extends UserError {
  constructor(
    readonly what: string,
    readonly advice: string,
  ) {
    super(`${what} ${advice}`);
  }
}

/**
 * Another rank has ended, or does not answer. The run can continue from its last checkpoint, so the process ends with
 * its own exit code, which tells a launcher that a restart may help.
 */
export class RankLostError extends UserError {
  static readonly exitCode = 138;
}

/** Throws when an invariant of our own code is broken; never for input. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`internal: ${message}`);
}

/** The known name nearest to `name` by edit distance; undefined if none is near enough to be a misspelling. */
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

const LONGEST_EXCERPT = 80;
const SHOWN_ITEMS = 8;
const SHOWN_DEPTH = 3;

/**
 * A value as a message shows it: JSON, cut if it is long or deep; "missing" for undefined. Takes any value, however
 * large, deep or circular.
 */
export function excerpt(value: unknown, longest = LONGEST_EXCERPT): string {
  if (value === undefined) return "missing";
  const text = JSON.stringify(shallow(value, longest, SHOWN_DEPTH)) ?? typeof value;
  return text.length > longest ? `${text.slice(0, longest)}...` : text;
}

/** The first items of the first levels, as plain values; "..." marks what is cut. */
function shallow(value: unknown, longest: number, depth: number): unknown {
  if (typeof value === "string") return value.slice(0, longest + 1);
  if (typeof value === "bigint") return String(value);
  if (typeof value !== "object" || value === null) return value;
  if (depth === 0) return "...";
  if (Array.isArray(value)) {
    const items = value.slice(0, SHOWN_ITEMS).map((item) => shallow(item, longest, depth - 1));
    return value.length > SHOWN_ITEMS ? [...items, "..."] : items;
  }
  const shown: [string, unknown][] = [];
  for (const [key, item] of Object.entries(value)) {
    if (shown.length === SHOWN_ITEMS) {
      shown.push(["...", "..."]);
      break;
    }
    // JSON.stringify would call a function under a key of the file, such as toJSON.
    shown.push([key.slice(0, longest), typeof item === "function" ? null : shallow(item, longest, depth - 1)]);
  }
  return Object.fromEntries(shown);
}
