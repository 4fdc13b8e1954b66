// What a check found: one line each. A check that fails becomes a finding, too, so that the first problem of a folder
// does not hide the others.
import { UserError } from "../errors.js";

/** ok: as it should be; note: cannot be checked, or worth knowing; problem: something is damaged or does not fit. */
export type Level = "ok" | "note" | "problem";

export interface Finding {
  level: Level;
  /** A path. */
  where: string;
  message: string;
}

export type Report = (level: Level, where: string, message: string) => void;

/** Runs a check; whatever it throws becomes a problem of `where`. Returns its result, or undefined if it throws. */
export function attempt<Result>(report: Report, where: string, check: () => Result): Result | undefined {
  try {
    return check();
  } catch (failure) {
    const message = messageOf(failure);
    report("problem", where, message.startsWith(`${where}: `) ? message.slice(where.length + 2) : message);
    return undefined;
  }
}

function messageOf(failure: unknown): string {
  if (failure instanceof UserError) return failure.message;
  return `cannot be checked: ${failure instanceof Error ? failure.message.split("\n")[0] : String(failure)}`;
}
