// A name that may be a misspelling of a known one.
import { nearestName } from "../../errors.js";

/** Letters of a name that are compared; the search takes time in proportion. */
const LONGEST_NAME = 60;

/** ` Did you mean "prompt"?`, or nothing. */
export function meant(name: string, known: readonly string[]): string {
  const near = nearestName(name.slice(0, LONGEST_NAME), [...known]);
  return near === undefined ? "" : ` Did you mean "${near}"?`;
}
