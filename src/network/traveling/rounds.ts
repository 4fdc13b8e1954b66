// Decides the next round of ranks whose rows go to each other's experts. Each rank says what it wants; all compute the
// same answer, and a rank that is not served repeats its wish. Micro-batches may differ in their numbers of tiles, or
// of an inverse's iterations, so ranks drift apart. Values go first, then the rank at the earliest micro-batch, so that
// they meet again. No rank waits for one that has ended: that one serves until all have ended.
import { assert } from "../../errors.js";

export type Wish =
  /**
   * Values of a layer's experts, without a backward pass: for each expert as many choices as `counts` says, and
   * `tokens` that go to each rank.
   */
  | { kind: "value"; layer: number; counts: readonly number[]; tokens: readonly number[] }
  /** The same with a backward pass. `turn` counts a rank's rounds of this layer in the micro-batch `slot`. */
  | { kind: "record"; layer: number; slot: number; turn: number; counts: readonly number[]; tokens: readonly number[] }
  /** The backward pass of round `of`. */
  | { kind: "gradient"; slot: number; of: number }
  | { kind: "none" }
  | { kind: "failed" };

/** What is done in a round, and for which ranks; their wishes have the same kind, layer and place. */
export interface Round {
  kind: Wish["kind"];
  ranks: readonly number[];
}

/** `recordedBy` gives the ranks that had rows in a round with a backward pass. */
export function nextRound(wishes: readonly Wish[], recordedBy: (round: number) => readonly number[]): Round {
  const who = (isMeant: (wish: Wish) => boolean): number[] =>
    wishes.flatMap((wish, rank) => (isMeant(wish) ? [rank] : []));
  const failed = who(({ kind }) => kind === "failed");
  if (failed.length > 0) return { kind: "failed", ranks: failed };
  const found = wishes.filter((wish) => {
    if (wish.kind !== "gradient") return wish.kind !== "none";
    return recordedBy(wish.of).every((rank) => isSame(wishes[rank], wish));
  });
  if (found.length > 0) {
    const [first] = found.sort((a, b) => compare(placeOf(a), placeOf(b)));
    return { kind: first.kind, ranks: who((wish) => isSame(wish, first)) };
  }
  assert(
    wishes.every(({ kind }) => kind === "none"),
    `no rank can go on: ${JSON.stringify(wishes)}`,
  );
  return { kind: "none", ranks: [] };
}

/** Where a wish stands in the order, compared from the first number on. */
function placeOf(wish: Wish): number[] {
  if (wish.kind === "value") return [-1, 0, wish.layer];
  if (wish.kind === "record") return [wish.slot, 0, wish.layer, wish.turn];
  return wish.kind === "gradient" ? [wish.slot, 1, wish.of] : [];
}

const compare = (a: readonly number[], b: readonly number[]): number => {
  const at = a.findIndex((each, i) => each !== b[i]);
  return at < 0 ? 0 : a[at] - b[at];
};

const isSame = (a: Wish, b: Wish): boolean => a.kind === b.kind && compare(placeOf(a), placeOf(b)) === 0;
