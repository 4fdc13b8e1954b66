// Access to the engine that computes nothing: during the call, every tensor that is made only has a size.
import { withEngine } from "./binding.js";
import { operatorCalls, shadowEngine } from "./shadow/engine.js";
import { everyRound, fewRounds, UnlikeRounds } from "./shadow/rounds.js";
import { accountOf, beyondCounting } from "./shadow/account.js";

/**
 * Runs `fn` on a new shadow engine, with nothing alive in its ledger. Tensors made before are unknown in it. Only a few
 * of the rounds that are alike run; if some differ that should be alike, `fn` runs again with all rounds.
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

/** For each span, the most bytes alive on a device of the shadow engine since the last reset. */
export const shadowSpans = (device: string): Map<string, number> => new Map(accountOf(device).spans);

/** `operatorCalls` counts those on the last shadow engine. */
export { beyondCounting, operatorCalls };
