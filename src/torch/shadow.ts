// The way to the engine that computes nothing: for the time of a call, every tensor made is one that only has a size.
import { withEngine } from "./binding.js";
import { operatorCalls, shadowEngine } from "./shadow/engine.js";
import { everyRound, fewRounds, UnlikeRounds } from "./shadow/rounds.js";
import { accountOf, beyondCounting } from "./shadow/account.js";

/**
 * Runs `fn` on a new shadow engine, in whose ledger nothing is alive yet. Tensors made before are unknown in it. Of rounds that are
 * alike, few are run; where some should be alike and are not, `fn` is run again with all of them.
 */
export function onShadow<Result>(fn: () => Result): Result {
  try {
    return withEngine((real) => shadowEngine(real, fewRounds), fn);
  } catch (failure) {
    if (failure instanceof UnlikeRounds) return onFullShadow(fn);
    throw failure;
  }
}

/** The same with every round. */
export const onFullShadow = <Result>(fn: () => Result): Result =>
  withEngine((real) => shadowEngine(real, everyRound), fn);

/** Since the last reset, by span, the most bytes that were alive on a device of the shadow engine. */
export const shadowSpans = (device: string): Map<string, number> => new Map(accountOf(device).spans);

/** `operatorCalls`: those on the last shadow engine. */
export { beyondCounting, operatorCalls };
