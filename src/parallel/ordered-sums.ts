// Sums of gradients that have the same bits for every number of ranks. Rank 0 adds up its micro-batches, and hands the sum to rank 1, which adds its own
// to it, and so on: the additions of one process, in its order. Meanwhile rank 0 is at its next block, so that W ranks work side by side, each a block
// behind the one before it, and a backward pass over L blocks takes the time of L + W - 1. The last rank has the whole, measures it, and sends every
// rank the number and the rows that it needs.
import {
  awaitTicket,
  dropTicket,
  giveUpMemory,
  keepRows,
  receive,
  startSend,
  takeMemory,
  type Ticket,
} from "../torch/comm/group.js";
import { narrow } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { type Rows, empty, fromArray, item, shape, type Tensor } from "../torch/tensor.js";
import type { Collectives, GradientSums, NeededRows } from "./collectives.js";
import { gradientTags } from "./tags.js";

type Named = Readonly<Record<string, Tensor>>;

interface Waiting {
  stage: number;
  part: number;
  gradients: Named;
  /** Known by the last rank, and by the others when they hear of it. */
  measured: number;
  sent: readonly Ticket[];
  /** Of the gradients, whose memory is given up until the whole comes; null while they have some. */
  sizes: number[][] | null;
  whole: (measured: number) => void;
}

/** Stages by which a whole is looked at later than it may be there, so that a rank which is late for a moment keeps nobody waiting. */
const SLACK = 1;

/** `pass` is another number each time, so that what a pass that was given up has left behind is nothing to the next. */
export function orderedSums(
  { rank, world }: Pick<Collectives, "rank" | "world">,
  pass: number,
  needed: NeededRows = () => null,
): GradientSums {
  const last = world - 1;
  /** As many stages as the last rank is behind this one. */
  const delay = last - rank;
  const others = Array.from({ length: last }, (_, other) => other);
  const waiting: Waiting[] = [];
  const paused: Ticket[] = [];
  let [stage, ended] = [0, false];

  const tags = gradientTags(pass);
  const send = (part: number, gradients: Named, to: number): Ticket[] =>
    Object.entries(gradients).map(([name, gradient]) => startSend(gradient, [to], tags.sum(part, name)));
  const receiveFrom = (from: number, part: number, gradients: Named): void => {
    for (const [name, gradient] of Object.entries(gradients)) receive(gradient, from, tags.sum(part, name));
  };
  /** To every other rank what is measured, and its rows of the whole. */
  const sendWhole = (part: number, gradients: Named, measured: number): Ticket[] =>
    scope(() => [
      startSend(fromArray([measured], [1], "float64"), others, tags.measure(part)),
      ...Object.entries(gradients).flatMap(([name, gradient]) => {
        const tag = tags.whole(part, name);
        if (needed(part, name, last) === null) return [startSend(gradient, others, tag)];
        return others.flatMap((other) => {
          const { first, count } = needed(part, name, other) as Rows;
          return count > 0 ? [startSend(narrow(gradient, 0, first, count), [other], tag)] : [];
        });
      }),
    ]);
  const hear = (part: number): number =>
    scope(() => {
      const told = empty([1], "float64");
      receive(told, last, tags.measure(part));
      return item(told);
    });
  const settle = (each: Waiting): void => {
    const { part, gradients, sent, sizes, whole } = each;
    if (sizes === null) sent.forEach(awaitTicket);
    if (rank < last) {
      each.measured = hear(part);
      for (const [i, [name, gradient]] of Object.entries(gradients).entries()) {
        const [all, ...rest] = sizes?.[i] ?? shape(gradient);
        const count = needed(part, name, rank)?.count ?? all;
        if (sizes !== null || count < all) takeMemory(gradient, [count, ...rest]);
        if (count > 0) receive(gradient, last, tags.whole(part, name));
      }
    }
    whole(each.measured);
  };
  /** What the next rank has had time to receive is in nobody's way until it is whole. */
  const leave = (each: Waiting): void => {
    each.sent.forEach(awaitTicket);
    each.sizes = Object.values(each.gradients).map(giveUpMemory);
  };

  return {
    beginsHere: rank === 0,
    enter() {
      if (ended) stage++;
      ended = false;
      while (waiting.length > 0 && waiting[0].stage < stage - delay - SLACK) settle(waiting.shift() as Waiting);
      if (rank === last) return;
      for (const each of waiting) if (each.sizes === null && each.stage < stage - 1) leave(each);
    },
    begin(part, gradients) {
      for (const name of Object.keys(gradients)) tags.sum(part, name);
      if (rank > 0) receiveFrom(rank - 1, part, gradients);
    },
    end(part, gradients, measure, whole) {
      ended = true;
      tags.measure(part);
      const measured = rank < last ? 0 : measure();
      const sent = rank < last ? send(part, gradients, rank + 1) : sendWhole(part, gradients, measured);
      if (rank === last) {
        for (const [name, gradient] of Object.entries(gradients)) {
          const own = needed(part, name, rank);
          if (own !== null && own.count < shape(gradient)[0]) keepRows(gradient, own.first, own.count);
        }
      }
      waiting.push({ stage, part, gradients, measured, sent, sizes: null, whole });
    },
    pause(part, gradients) {
      paused.push(...send(part, gradients, (rank + 1) % world));
    },
    resume(part, gradients) {
      paused.splice(0).forEach(awaitTicket);
      receiveFrom((rank + last) % world, part, gradients);
    },
    finish() {
      while (waiting.length > 0) settle(waiting.shift() as Waiting);
      paused.splice(0).forEach(awaitTicket);
    },
    // What a rank sends waits for one that asks, and those that give up ask for nothing more.
    giveUp() {},
    close() {
      for (const { sent, sizes } of waiting.splice(0)) if (sizes === null) sent.forEach(dropTicket);
      paused.splice(0).forEach(dropTicket);
    },
  };
}
