// What all ranks hear of what one has met, and of ranks whose networks have come apart.
import assert from "node:assert/strict";
import { test } from "node:test";

import { BadValuesError } from "../errors.js";
import { agreed, checkAlike } from "./agreed.js";
import { ALONE, type Collectives } from "./collectives.js";

const bad = (): never => {
  throw new BadValuesError("a value is not a finite number.", "Look.");
};

/** Two ranks, of which the other says what `other` does; in the form in which `agreed` says it. */
const beside = (other: unknown): Collectives => ({ ...ALONE, world: 2, gather: (own) => [own, other as typeof own] });

test("all have every rank's result, or the bad values of the first rank that met some", () => {
  assert.deepEqual(
    agreed(beside({ value: 2 }), () => 1),
    [1, 2],
  );
  const message = (rank: number): RegExp => new RegExp(`^rank ${rank}: a value is not a finite number\\. Look\\.$`);
  const said = { what: "a value is not a finite number.", advice: "Look." };
  assert.throws(() => agreed(beside(said), () => 1), { name: "UserError", message: message(1) });
  assert.throws(() => agreed(beside({ value: 2 }), bad), { message: message(0) });
  assert.throws(() => agreed(beside(said), bad), { message: message(0) });
  // One process says what it always has; and no defect becomes a sentence.
  assert.throws(() => agreed(ALONE, bad), { message: "a value is not a finite number. Look." });
  assert.throws(() => agreed(beside({ value: 2 }), () => assert.fail("a defect")), assert.AssertionError);
});

test("ranks that have other results of the same step end the run", () => {
  const result = { gradNorm: 1.5, loss: 2 };
  checkAlike(ALONE, 3, [result]);
  checkAlike(ALONE, 3, [result, { ...result }]);
  for (const other of [{ gradNorm: 1.5000000000000002 }, { loss: 2.0000000000000004 }, { gradNorm: 0 }])
    assert.throws(() => checkAlike({ ...ALONE, world: 3 }, 3, [result, result, { ...result, ...other }]), {
      name: "UserError",
      message: /^step 3: rank 2 has the .* and rank 0 .* \(expected the same bits\).*on one of the 3 machines/,
    });
});
