// The way to the engine that computes nothing: for the time of a call, every tensor made is one that only has a size.
import { withEngine } from "./binding.js";
import { shadowEngine } from "./shadow/engine.js";
import { accountOf } from "./shadow/values.js";

/** Runs `fn` on a new shadow engine, in whose ledger nothing is alive yet. Tensors made before are unknown in it. */
export const onShadow = <Result>(fn: () => Result): Result => withEngine(shadowEngine, fn);

/** Since the last reset, by moment, the most bytes that were alive on a device of the shadow engine. */
export const shadowMoments = (device: string): Map<string, number> => new Map(accountOf(device).moments);
