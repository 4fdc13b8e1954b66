// Where text goes: the part of a Node stream that reports need, so that tests can pass a plain object. Decides in one
// place whether a stream is a terminal that can be redrawn and coloured. Holds no state.

export interface Output {
  /** Lines for people. */
  write(text: string): unknown;
  /**
   * Writes text with our own control sequences, or text that must not lose a byte; without this, `write` takes such
   * text unchanged.
   */
  raw?(text: string): unknown;
  /** Ends a line that `raw` has left open, if any. */
  endLine?(): void;
  isTTY?: boolean;
  columns?: number;
}

/** Writes text unchanged. */
export const writeRaw = (out: Output, text: string): void => void (out.raw ? out.raw(text) : out.write(text));

type Environment = Readonly<Record<string, string | undefined>>;

/** Whether lines can be rewritten in place: a terminal that understands escape sequences. */
export function canRedraw(output: Output, env: Environment = process.env): boolean {
  return output.isTTY === true && env.TERM !== "dumb";
}

/**
 * Whether to colour: on such a terminal, unless NO_COLOR has any value (no-color.org). FORCE_COLOR decides for every
 * output and overrides NO_COLOR, as in Node: 0 or false means no, anything else yes.
 */
export function canColor(output: Output, env: Environment = process.env): boolean {
  const { FORCE_COLOR: force, NO_COLOR: no } = env;
  if (force) return force !== "0" && force !== "false";
  return canRedraw(output, env) && !no;
}
