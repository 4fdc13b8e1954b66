// Counting steps cannot stop everything. This refuses the rest before it begins: searches over too many letters, too
// much indentation, texts repeated too often.
import { TEMPLATE_LIMITS as LIMITS, LimitExceeded } from "../limits.js";

/** Whether a search, which nothing can stop, would compare too many letters in the worst case. */
export function mayTakeLong(part: string, whole: string): boolean {
  return part.length * Math.max(0, whole.length - part.length + 1) > LIMITS.search;
}

export function boundSearch(part: string, whole: string): void {
  if (mayTakeLong(part, whole)) throw new LimitExceeded(`it searches ${whole.length} letters for ${part.length}`);
}

export function boundIndent(blanks: number): void {
  if (blanks > LIMITS.indent) throw new LimitExceeded(`it indents by ${blanks} (expected at most ${LIMITS.indent})`);
}

export function boundRepeat(length: number, times: number): void {
  if (length * times > LIMITS.text)
    throw new LimitExceeded(`it makes a text or a list of ${length * times} (expected at most ${LIMITS.text})`);
}
