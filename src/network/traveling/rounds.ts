// What ranks do next whose rows go to experts of one another: each says what it wants, all find the same answer, and whoever's turn it is not asks again.
// Ranks want as much as their micro-batches need, which may have other numbers of tiles, or of rounds of an inverse: values go first, and then whoever
// is at an earlier micro-batch, so that ranks which came apart meet again. None waits for one that has ended: it goes on serving until all have.
import { assert } from "../../errors.js";

export type Wish =
  /** Values of a layer's experts, each for as many choices as `counts` says, of `tokens` that go to each rank; without a way back. */
  | { kind: "value"; layer: number; counts: readonly number[]; tokens: readonly number[] }
  /** The same with one. `turn` counts those of the layer in the micro-batch `slot`, of those of a rank. */
  | { kind: "record"; layer: number; slot: number; turn: number; counts: readonly number[]; tokens: readonly number[] }
  /** The way back of the round `of`. */
  | { kind: "gradient"; slot: number; of: number }
  | { kind: "none" }
  | { kind: "failed" };

/** What is done in a round, and for which ranks; their wishes are of one kind, layer and place. */
export interface Round {
  kind: Wish["kind"];
  ranks: readonly number[];
}

/** `recordedBy` says whose rows a round had that is to be gone back. */
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

/** Compared from the first number on. */
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
