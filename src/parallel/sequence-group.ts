// Ranks that hold each micro-batch together: groups of as many, one behind the other, among which micro-batches are shared out. Inside a group ranks
// exchange rows at the same places of a pass, so what ends it on one of them ends it on all. Holds nothing.
import { BadValuesError } from "../errors.js";
import { fromArray, type Tensor, toArray } from "../torch/tensor.js";
import { scope } from "../torch/scope.js";
import { type Collectives, shareOf } from "./collectives.js";

export interface SequenceGroup {
  /** This group, and how many there are. */
  readonly among: { rank: number; world: number };
  /** How many ranks it has, and this one's place. */
  readonly size: number;
  readonly place: number;
  /** Of so many tokens, how many each rank has. */
  share(tokens: number): number[];
  /** The first `sent[0]` rows go to the first rank, and so on; returns what they sent, in their order. Errors: BadValuesError where another has met one. */
  exchange(rows: Tensor, sent: readonly number[], received: readonly number[]): Tensor;
  /** What each rank gives, in order. */
  each(value: number): number[];
  /** `work` in which rows are exchanged. Errors: a BadValuesError of one rank is one on all. */
  together<T>(work: () => T): T;
}

/** Another rank of the group has met bad values, and tells of them. */
export class FollowingError extends BadValuesError {
  constructor() {
    super("another rank that holds the same micro-batches has met values that are not finite.", "See what it says.");
  }
}

/** Groups of `size` of the ranks of a pass; every rank makes the call. */
export function sequenceGroup(ranks: Pick<Collectives, "rank" | "world" | "exchange">, size: number): SequenceGroup {
  const [rank, place] = [Math.floor(ranks.rank / size), ranks.rank % size];
  const common = { among: { rank, world: ranks.world / size }, size, place };
  const share = (tokens: number): number[] =>
    Array.from({ length: size }, (_, of) => {
      const [first, end] = shareOf({ rank: of, world: size }, tokens);
      return end - first;
    });
  if (size === 1)
    return { ...common, share, exchange: (rows) => rows, each: (value) => [value], together: (work) => work() };
  const members = Array.from({ length: size }, (_, i) => rank * size + i);
  const rows = ranks.exchange();
  const ones = new Array<number>(size).fill(1);
  /** In front of all that they exchange, so that one that cannot go on keeps nobody waiting. */
  const meet = (value: number, fails = 0): number[] =>
    scope(() => {
      const own = fromArray(new Array(size).fill([fails, value]).flat(), [size, 2], "float64");
      const found = toArray(rows(own, members, ones, ones));
      if (fails === 0 && found.some((each, i) => i % 2 === 0 && each !== 0)) throw new FollowingError();
      return found.filter((_, i) => i % 2 === 1);
    });
  return {
    ...common,
    share,
    exchange: (of, sent, received) => {
      meet(0);
      return rows(of, members, sent, received);
    },
    each: (value) => meet(value).map((found, i) => (i === place ? value : found)),
    together: (work) => {
      try {
        const made = work();
        meet(0);
        return made;
      } catch (failure) {
        if (failure instanceof BadValuesError && !(failure instanceof FollowingError)) meet(0, 1);
        throw failure;
      }
    },
  };
}
