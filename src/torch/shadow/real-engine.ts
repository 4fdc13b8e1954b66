// What the engine that counts has to know of the real one, whose place it takes. Set when it is made.
import type { ExpertLimits, Native } from "../binding.js";

interface RealEngine {
  /** 213 for 2.13. */
  version: number;
  threads: number;
  experts: ExpertLimits;
  steadyRows: Native["steadyRows"];
}

let known: RealEngine | null = null;

export function standFor(real: Native): void {
  const { version, threads } = real.engine();
  const [major, minor] = version.split(".").map(Number);
  const steady = new Map<number, number>();
  const steadyRows = (rows: number): number => {
    const same = steady.get(rows) ?? real.steadyRows(rows);
    steady.set(rows, same);
    return same;
  };
  known = { version: 100 * major + minor, threads, experts: real.expertLimits(), steadyRows };
}

export function realEngine(): RealEngine {
  if (known === null) throw new Error("internal: no engine is stood in for");
  return known;
}
