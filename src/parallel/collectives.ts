// What ranks do together: the processes that train one model, each with a part of every step's micro-batches. For one process all of it is there,
// too, and does nothing, so that a step is written once. Every rank makes the same calls in the same order.
import { UserError } from "../errors.js";
import type { Rows, Tensor } from "../torch/tensor.js";

export interface Collectives {
  /** From 0. */
  readonly rank: number;
  /** How many ranks there are. */
  readonly world: number;
  /** Every rank's value, in their order; anything that v8.serialize takes, numbers to the bit. */
  gather<T>(value: T): T[];
  /** Of one pass over a step's micro-batches, of whose sums every rank needs some rows; all unless said otherwise. */
  sums(needed?: NeededRows, order?: SumOrder): GradientSums;
  /**
   * Of one pass in which ranks read tensors of one another; `on` is the device of all of them where every rank offers and reads the same in the same
   * order.
   */
  reads(on?: string): RemoteReads;
  /** For what ranks compute together in one step. */
  exchange(): RowExchange;
  /** Bytes of tensors that this rank has sent to others so far. */
  sentBytes(): number;
  /** `where` the run is, for the error of a rank that is lost. */
  at(where: string): void;
  /** Waits for all ranks, and leaves. */
  close(): void;
}

/**
 * How gradients of ranks are added: "ordered" as one process would, each rank behind the one before it, for the same bits; "direct" when each has its
 * own, without that wait and with less traffic. "ordered" unless said otherwise.
 */
export const SUM_ORDERS = ["ordered", "direct"] as const;
export type SumOrder = (typeof SUM_ORDERS)[number];

/** What carries large tensors between ranks: "gloo" through main memory, "nccl" from card to card, where all ranks are at the same block. */
export const RANK_TRANSPORTS = ["gloo", "nccl"] as const;
export type RankTransport = (typeof RANK_TRANSPORTS)[number];

/** Which rows a rank needs of the sum of a part's gradient; null for all. */
export type NeededRows = (part: number, name: string, rank: number) => Rows | null;

/** None: the norm is all that is asked for. */
export const NO_ROWS: NeededRows = () => ({ first: 0, count: 0 });

/**
 * Sends the first `sent[0]` rows to the first of `among`, the next ones to the second, and so on, this rank among them; returns what they sent to it,
 * in their order, `received[i]` rows from each. All of them make the call, with rows of one type and width.
 */
export type RowExchange = (
  rows: Tensor,
  among: readonly number[],
  sent: readonly number[],
  received: readonly number[],
) => Tensor;

/** Tensors that are read by others under a number, which says the same on all ranks. */
export interface RemoteReads {
  /** Whether ranks have to offer and to read the same at the same places, and to say behind each that it may go. */
  readonly inRounds: boolean;
  /** What was offered and asked for since the last call goes. */
  go(): void;
  /** Each of the ranks `to` will read the tensor once. Until it is `settled` it must not change. */
  offer(number: number, tensor: Tensor, to: readonly number[]): void;
  /** Begins to read what a rank offers; what is returned waits until it is there. */
  read(number: number, from: number, into: Tensor): () => void;
  /** Waits until a tensor that was offered has been read. */
  settled(number: number): void;
  /** Waits until all have been. */
  finish(): void;
  /** Gives up what is on its way. */
  close(): void;
}

/**
 * The gradients of a part of the network on their way to sums over the micro-batches of all ranks. Tensors stay the caller's, alive until they are
 * `whole`.
 */
export interface GradientSums {
  /** Whether this rank's gradients begin with nothing, and not with what others have summed. */
  readonly beginsHere: boolean;
  /** In front of a part: what has become whole meanwhile is seen to, so that its gradients are gone when the next ones are made. */
  enter(): void;
  /** In front of this rank's first micro-batch: puts into `gradients`, which are zero, what the ranks before it have summed. */
  begin(part: number, gradients: Readonly<Record<string, Tensor>>): void;
  /**
   * Behind its last one. `whole` is called when they are the sums of all, now or later, cut down to the rows that this rank needs; calls keep their
   * order. What one rank measures of whole gradients is told to all.
   */
  end(
    part: number,
    gradients: Readonly<Record<string, Tensor>>,
    measure: () => number,
    whole: (measured: number) => void,
  ): void;
  /** Behind its last one, of gradients that are added to a second time, from rank 0 on, after `resume`. */
  pause(part: number, gradients: Readonly<Record<string, Tensor>>): void;
  resume(part: number, gradients: Readonly<Record<string, Tensor>>): void;
  /** Returns when everything is whole. */
  finish(): void;
  /** In place of `finish`, where all ranks give up at the same place: what they have begun to send arrives, so that it is in nobody's way later. */
  giveUp(): void;
  /** Gives up what is not whole. */
  close(): void;
}

/** One process by itself. */
export const ALONE: Collectives = {
  rank: 0,
  world: 1,
  gather: (value) => [value],
  sums: () => ({
    beginsHere: true,
    enter() {},
    begin() {},
    end: (_part, _gradients, measure, whole) => whole(measure()),
    pause() {},
    resume() {},
    finish() {},
    giveUp() {},
    close() {},
  }),
  reads: () => ({ inRounds: false, go() {}, offer() {}, read: () => () => {}, settled() {}, finish() {}, close() {} }),
  exchange: () => (rows) => rows,
  sentBytes: () => 0,
  at() {},
  close() {},
};

/** Which of `count` are this rank's: as many as any other's, or one less. */
export function shareOf(
  { rank, world }: Pick<Collectives, "rank" | "world">,
  count: number,
): [first: number, end: number] {
  return [Math.floor((rank * count) / world), Math.floor(((rank + 1) * count) / world)];
}

/** `work` is done by rank 0 alone; all have its result, or throw its error. */
export function onFirst<T>(ranks: Collectives, work: () => T): T {
  if (ranks.world === 1) return work();
  let outcome: Outcome<T> | null = null;
  try {
    if (ranks.rank === 0) outcome = { value: work() };
  } catch (failure) {
    outcome = { failure };
  }
  return shared(ranks, outcome);
}

/** The same of work that takes its time. */
export async function onFirstLater<T>(ranks: Collectives, work: () => Promise<T>): Promise<T> {
  if (ranks.world === 1) return work();
  let outcome: Outcome<T> | null = null;
  try {
    if (ranks.rank === 0) outcome = { value: await work() };
  } catch (failure) {
    outcome = { failure };
  }
  return shared(ranks, outcome);
}

/** `work` is done by rank 0 and then by the others, which may find what it has left. */
export async function inTurn<T>(ranks: Collectives, work: () => Promise<T>): Promise<T> {
  let own: { result: T } | null = null;
  await onFirstLater(ranks, async () => {
    own = { result: await work() };
  });
  return ((own as { result: T } | null) ?? { result: await work() }).result;
}

type Outcome<T> = { value: T } | { failure: unknown };

function shared<T>(ranks: Collectives, own: Outcome<T> | null): T {
  const said = own && "failure" in own ? { message: (own.failure as Error).message } : own;
  const [first] = ranks.gather(said as { value: T } | { message: string } | null);
  if (own && "failure" in own) throw own.failure;
  if (first !== null && "message" in first) throw new UserError(`rank 0: ${first.message}`);
  return (first as { value: T }).value;
}
