// Sums of gradients that have the same bits for every number of ranks. Rank 0 adds up its micro-batches, and hands the sum to rank 1, which adds its own
// to it, and so on: the additions of one process, in its order. Meanwhile rank 0 is at its next block, so that W ranks work side by side, each a block
// behind the one before it, and a backward pass over L blocks takes the time of L + W - 1. The last rank has the whole, and sends it to all.
import {
  awaitTicket,
  dropTicket,
  giveUpMemory,
  receive,
  startSend,
  takeMemory,
  type Ticket,
} from "../torch/comm/group.js";
import type { Tensor } from "../torch/tensor.js";
import type { Collectives, GradientSums } from "./collectives.js";

type Named = Readonly<Record<string, Tensor>>;

interface Waiting {
  stage: number;
  gradients: readonly Tensor[];
  tags: readonly number[];
  sent: readonly Ticket[];
  /** Of the gradients, whose memory is given up until the whole comes; null while they have some. */
  sizes: number[][] | null;
  whole: () => void;
}

const MOST_TAGS = 1 << 18;
/** Stages by which a whole is looked at later than it may be there, so that a rank which is late for a moment keeps nobody waiting. */
const SLACK = 1;

/** `pass` is another number each time, so that what a pass that was given up has left behind is nothing to the next. */
export function orderedSums({ rank, world }: Pick<Collectives, "rank" | "world">, pass: number): GradientSums {
  const last = world - 1;
  /** As many stages as the last rank is behind this one. */
  const delay = last - rank;
  const others = Array.from({ length: last }, (_, other) => other);
  const waiting: Waiting[] = [];
  const paused: Ticket[] = [];
  const known = new Map<string, number>();
  let [stage, ended] = [0, false];

  /** Names come up in the same order on all ranks. A head that is the embedding is one tensor of two parts. */
  const tagOf = (part: number, name: string): number => {
    const key = part < 0 ? name : `${part} ${name}`;
    if (!known.has(key)) known.set(key, 2 * known.size);
    return (pass % (2 ** 31 / MOST_TAGS)) * MOST_TAGS + (known.get(key) as number);
  };
  /** Behind the tag of a sum that goes on. */
  const wholeTag = (tag: number): number => tag + 1;
  const send = (part: number, gradients: Named, to: number): Ticket[] =>
    Object.entries(gradients).map(([name, gradient]) => startSend(gradient, to, tagOf(part, name)));
  const receiveFrom = (from: number, part: number, gradients: Named): void => {
    for (const [name, gradient] of Object.entries(gradients)) receive(gradient, from, tagOf(part, name));
  };
  const settle = ({ gradients, tags, sent, sizes, whole }: Waiting): void => {
    if (sizes === null) sent.forEach(awaitTicket);
    sizes?.forEach((each, i) => takeMemory(gradients[i], each));
    if (rank < last) gradients.forEach((gradient, i) => receive(gradient, last, wholeTag(tags[i])));
    whole();
  };
  /** What the next rank has had time to receive is in nobody's way until it is whole. */
  const leave = (each: Waiting): void => {
    each.sent.forEach(awaitTicket);
    each.sizes = each.gradients.map(giveUpMemory);
  };

  return {
    enter() {
      if (ended) stage++;
      ended = false;
      while (waiting.length > 0 && waiting[0].stage < stage - delay - SLACK) settle(waiting.shift() as Waiting);
      if (rank === last) return;
      for (const each of waiting) if (each.sizes === null && each.stage < stage - 1) leave(each);
    },
    begin(part, gradients) {
      for (const name of Object.keys(gradients)) tagOf(part, name);
      if (rank > 0) receiveFrom(rank - 1, part, gradients);
    },
    end(part, gradients, whole) {
      ended = true;
      const all = Object.values(gradients);
      const tags = Object.keys(gradients).map((name) => tagOf(part, name));
      const sent =
        rank < last
          ? send(part, gradients, rank + 1)
          : others.flatMap((other) => all.map((gradient, i) => startSend(gradient, other, wholeTag(tags[i]))));
      waiting.push({ stage, gradients: all, tags, sent, sizes: null, whole });
    },
    pause(part, gradients) {
      paused.push(...send(part, gradients, (rank + 1) % world));
    },
    resume(part, gradients) {
      paused.splice(0).forEach(awaitTicket);
      receiveFrom((rank + last) % world, part, gradients);
    },
    finish() {
      for (const each of waiting.splice(0)) settle(each);
      paused.splice(0).forEach(awaitTicket);
    },
    close() {
      for (const { sent, sizes } of waiting.splice(0)) if (sizes === null) sent.forEach(dropTicket);
      paused.splice(0).forEach(dropTicket);
    },
  };
}
