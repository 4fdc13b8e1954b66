// For tests: compares memory during some work on the real engine and on the one that counts.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ledger, resetPeak } from "../memory.js";
import { scope } from "../scope.js";
import { onShadow } from "../shadow.js";

/** Work that calls `mark` at each point where bytes are compared. */
export type Work = (mark: () => void) => void;

/** Live and peak bytes above the start, at every mark. */
function courseOf(work: Work): [number, number][] {
  return scope(() => {
    const course: [number, number][] = [];
    const base = ledger().liveBytes;
    resetPeak();
    work(() => course.push([ledger().liveBytes - base, ledger().peakBytes - base]));
    return course;
  });
}

export function testCourses(works: Record<string, Work>): void {
  for (const [name, work] of Object.entries(works)) {
    test(`the shadow of ${name} takes the same bytes`, () => {
      const real = courseOf(work);
      const shadow = onShadow(() => courseOf(work));
      assert.ok(real.length > 0 && shadow.length === real.length);
      for (const [i, [live, peak]] of real.entries()) {
        assert.equal(shadow[i][0], live, `alive at mark ${i}`);
        // The engine that counts ignores scalars that the real one makes for a moment.
        assert.ok(Math.abs(shadow[i][1] - peak) <= 64, `peak at mark ${i}: ${shadow[i][1]} planned, ${peak} real`);
      }
    });
  }
}
