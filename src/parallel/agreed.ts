// What ranks must agree on in a step: that a forward pass went well on all of them, and at its end that they are still the same network.
import { BadValuesError, UserError } from "../errors.js";
import type { Collectives } from "./collectives.js";
import { FollowingError } from "./sequence-group.js";

type Found<T> = { value: T } | { what: string; advice: string; isTold: boolean; follows: boolean };

/** What all ranks have been told of. */
export class ToldError extends BadValuesError {}

/** What `work` gives on every rank, in their order. Errors: on all of them the BadValuesError of the first rank that met one. */
export function agreed<T>(ranks: Collectives, work: () => T): T[] {
  let own: Found<T>;
  try {
    own = { value: work() };
  } catch (failure) {
    if (!(failure instanceof BadValuesError) || ranks.world === 1) throw failure;
    const [isTold, follows] = [failure instanceof ToldError, failure instanceof FollowingError];
    own = { what: failure.what, advice: failure.advice, isTold, follows };
  }
  const all = ranks.gather(own);
  const failed = all.flatMap((found, rank) => ("value" in found ? [] : [{ ...found, rank }]));
  if (failed.length > 0) {
    const { rank, what, advice, isTold } = failed.find(({ follows }) => !follows) ?? failed[0];
    throw new ToldError(isTold ? what : `rank ${rank}: ${what}`, advice);
  }
  return all.map((found) => (found as { value: T }).value);
}

/** Errors: UserError where ranks have other results of the same step, which follow from the same weights. */
export function checkAlike(
  ranks: Collectives,
  step: number,
  results: readonly { gradNorm: number; loss: number }[],
): void {
  const [first] = results;
  const other = results.findIndex(({ gradNorm, loss }) => gradNorm !== first.gradNorm || loss !== first.loss);
  if (other < 0) return;
  throw new UserError(
    `step ${step}: rank ${other} has the gradient norm ${results[other].gradNorm} and the loss ${results[other].loss}, and rank 0 ${first.gradNorm} and ${first.loss} (expected the same bits): their weights are no ` +
      `longer the same. Look for other processors, versions or threads on one of the ${ranks.world} machines, and go on from the last checkpoint.`,
  );
}
