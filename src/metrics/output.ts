// Where text goes: the part of a Node stream that reports need, so that tests can hand in a plain object. Decides once
// whether a stream is a terminal that can be redrawn and coloured. Holds no state.

export interface Output {
  /** Lines for people. */
  write(text: string): unknown;
  /** Text with control sequences of our own, or that must not lose a byte; where there is no such way, `write` takes it as it is. */
  raw?(text: string): unknown;
  /** Ends a line that `raw` has left open, if there is one. */
  endLine?(): void;
  isTTY?: boolean;
  columns?: number;
}

/** Writes text as it is. */
export const writeRaw = (out: Output, text: string): void => void (out.raw ? out.raw(text) : out.write(text));

type Environment = Readonly<Record<string, string | undefined>>;

/** Whether lines can be rewritten in place: a terminal that understands escape sequences. */
export function canRedraw(output: Output, env: Environment = process.env): boolean {
  return output.isTTY === true && env.TERM !== "dumb";
}

/**
 * Whether to colour: on such a terminal, unless NO_COLOR is set to anything (no-color.org). FORCE_COLOR says it for every output and is
 * the stronger of the two, as in Node: 0 or false is no, anything else yes.
 */
export function canColor(output: Output, env: Environment = process.env): boolean {
  const { FORCE_COLOR: force, NO_COLOR: no } = env;
  if (force) return force !== "0" && force !== "false";
  return canRedraw(output, env) && !no;
}
