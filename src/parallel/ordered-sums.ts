// Sums of gradients that have the same bits for every number of ranks. Rank 0 adds up its micro-batches, and hands the sum to rank 1, which adds its own
// to it, and so on: the additions of one process, in its order. Meanwhile rank 0 is at its next block, so that W ranks work side by side, each a block
// behind the one before it, and a backward pass over L blocks takes the time of L + W - 1. The last rank has the whole, and gives it to all.
import {
  awaitTicket,
  broadcast,
  dropTicket,
  giveUpMemory,
  receive,
  startSend,
  takeMemory,
  type Ticket,
} from "../torch/comm/group.js";
import type { Tensor } from "../torch/tensor.js";
import type { Collectives, GradientSums } from "./collectives.js";

interface Waiting {
  stage: number;
  gradients: readonly Tensor[];
  sent: readonly Ticket[];
  /** Of the gradients, whose memory is given up until the whole comes; null while they have some. */
  sizes: number[][] | null;
  whole: () => void;
}

const MOST_TAGS = 1 << 18;

/** `pass` is another number each time, so that what a pass that was given up has left behind is nothing to the next. */
export function orderedSums({ rank, world }: Pick<Collectives, "rank" | "world">, pass: number): GradientSums {
  const last = world - 1;
  /** As many stages as the last rank is behind this one. */
  const delay = last - rank;
  const waiting: Waiting[] = [];
  const paused: Ticket[] = [];
  const tags = new Map<string, number>();
  let [stage, ended] = [0, false];

  // Names come up in the same order on all ranks. A head that is the embedding is one tensor of two parts.
  const tagOf = (part: number, name: string): number => {
    const key = part < 0 ? name : `${part} ${name}`;
    if (!tags.has(key)) tags.set(key, tags.size);
    return (pass % (2 ** 31 / MOST_TAGS)) * MOST_TAGS + (tags.get(key) as number);
  };
  const send = (part: number, gradients: Readonly<Record<string, Tensor>>, to: number): Ticket[] =>
    Object.entries(gradients).map(([name, gradient]) => startSend(gradient, to, tagOf(part, name)));
  const receiveFrom = (from: number, part: number, gradients: Readonly<Record<string, Tensor>>): void => {
    for (const [name, gradient] of Object.entries(gradients)) receive(gradient, from, tagOf(part, name));
  };
  const settle = ({ gradients, sent, sizes, whole }: Waiting): void => {
    if (sizes === null) sent.forEach(awaitTicket);
    sizes?.forEach((each, i) => takeMemory(gradients[i], each));
    for (const gradient of gradients) broadcast(gradient, last);
    whole();
  };
  /** What the next rank has had time to receive is in nobody's way until it is whole. */
  const leave = (each: Waiting): void => {
    each.sent.forEach(awaitTicket);
    each.sizes = each.gradients.map(giveUpMemory);
  };
  /** Whoever is ahead of the last rank must not wait for it sooner, or nobody would work side by side. */
  const enter = (): void => {
    if (ended) stage++;
    ended = false;
    while (waiting.length > 0 && waiting[0].stage < stage - delay) settle(waiting.shift() as Waiting);
    for (const each of waiting) if (each.sizes === null && each.stage < stage - 1) leave(each);
  };

  return {
    enter,
    begin(part, gradients) {
      if (rank > 0) receiveFrom(rank - 1, part, gradients);
      else for (const name of Object.keys(gradients)) tagOf(part, name);
    },
    end(part, gradients, whole) {
      ended = true;
      const sent = rank === last ? [] : send(part, gradients, rank + 1);
      waiting.push({ stage, gradients: Object.values(gradients), sent, sizes: null, whole });
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
