// Sums of gradients in which ranks do not wait for one another's backward passes: each adds up its own micro-batches, and then every rank sends every
// other the rows that this one sums, in the order of the ranks. Bits are the same every time, but other ones for another number of ranks. A rank sends
// 4 bytes x parameters x (W - 1) / W to where rows are summed, and as many again where all need the whole.
import { awaitTicket, keepRows, receive, startSend, type Ticket } from "../torch/comm/group.js";
import { add_, copy_, narrow, setStorage_ } from "../torch/ops.js";
import { free, keep, scope } from "../torch/scope.js";
import { device, dtype, empty, fromArray, item, type Rows, shape, type Tensor } from "../torch/tensor.js";
import { type Channel, messages } from "./channel.js";
import { type Collectives, type GradientSums, type NeededRows, NO_ROWS, shareOf } from "./collectives.js";
import { gradientTags } from "./tags.js";

type Named = Readonly<Record<string, Tensor>>;

/** Parts that a rank adds to its rows of a gradient, by rank; null for its own, and where it sums no row. */
interface Coming {
  name: string;
  parts: ({ part: Tensor; ticket: Ticket } | null)[];
}

interface Waiting {
  stage: number;
  part: number;
  gradients: Named;
  /** The shapes that gradients had. */
  sizes: number[][];
  sent: Ticket[];
  coming: Coming[];
  measure: () => number;
  whole: (measured: number) => void;
}

/** Parts of a stage come while the next one is computed. */
const DELAY = 1;

/** `pass`: see `orderedSums`. */
export function directSums(
  { rank, world }: Pick<Collectives, "rank" | "world">,
  pass: number,
  needed: NeededRows = () => null,
  channel: Channel = messages,
): GradientSums {
  const others = Array.from({ length: world }, (_, other) => other).filter((other) => other !== rank);
  const waiting: Waiting[] = [];
  let [stage, ended] = [0, false];

  const tags = gradientTags(pass);
  /** Those that a rank sums: what it needs, or a share of what all need, or of what is only measured. */
  const summed = (of: number, part: number, name: string, rows: number): Rows => {
    const own = needed === NO_ROWS ? null : needed(part, name, of);
    if (own !== null) return own;
    const [first, end] = shareOf({ rank: of, world }, rows);
    return { first, count: end - first };
  };

  const begin = (each: Waiting): void => {
    for (const [name, gradient] of Object.entries(each.gradients)) {
      const [rows, ...rest] = shape(gradient);
      for (const other of others) {
        const { first, count } = summed(other, each.part, name, rows);
        if (count === 0) continue;
        scope(
          () =>
            void each.sent.push(channel.send(narrow(gradient, 0, first, count), [other], tags.sum(each.part, name))),
        );
      }
      const { count } = summed(rank, each.part, name, rows);
      const parts = Array.from({ length: world }, (_, from) => {
        if (from === rank || count === 0) return null;
        const part = scope(() => keep(empty([count, ...rest], dtype(gradient), device(gradient))));
        return { part, ticket: channel.receive(part, from, tags.sum(each.part, name)) };
      });
      each.coming.push({ name, parts });
    }
    channel.go();
  };

  /** Leaves this rank's rows of the sum in a gradient's place. */
  const addUp = ({ part, gradients }: Waiting, { name, parts }: Coming): void => {
    const gradient = gradients[name];
    const { first, count } = summed(rank, part, name, shape(gradient)[0]);
    if (count === 0) {
      keepRows(gradient, 0, 0);
      return;
    }
    scope(() => {
      const own = narrow(gradient, 0, first, count);
      const terms = parts.map((each) => {
        if (each === null) return own;
        channel.wait(each.ticket);
        return each.part;
      });
      // In the memory of what came: of two terms the sum is the same either way.
      const [sum, ...rest] = rank === 0 ? [terms[1], terms[0], ...terms.slice(2)] : terms;
      for (const term of rest) add_(sum, term);
      setStorage_(gradient, sum);
    });
    free(...parts.flatMap((each) => (each === null ? [] : [each.part])));
  };

  /** To and from all where all need the whole. */
  const exchangeWhole = ({ part, gradients, sizes }: Waiting): void =>
    scope(() => {
      const coming = Object.entries(gradients).flatMap(([name, gradient], i) => {
        if (needed(part, name, rank) !== null) return [];
        const rowsOf = (of: number): Rows => summed(of, part, name, sizes[i][0]);
        const own = rowsOf(rank);
        const whole = empty(sizes[i], dtype(gradient), device(gradient));
        if (own.count > 0) copy_(narrow(whole, 0, own.first, own.count), gradient);
        const sent = own.count === 0 ? [] : [channel.send(gradient, others, tags.whole(part, name))];
        const received = others.flatMap((other) => {
          const { first, count } = rowsOf(other);
          return count === 0 ? [] : [channel.receive(narrow(whole, 0, first, count), other, tags.whole(part, name))];
        });
        return [{ gradient, whole, tickets: [...sent, ...received] }];
      });
      channel.go();
      for (const { gradient, whole, tickets } of coming) {
        tickets.forEach(channel.wait);
        setStorage_(gradient, whole);
      }
    });

  /** Norms of rows into that of all, added in the order of the ranks. */
  const together = (part: number, own: number): number =>
    scope(() => {
      const told = fromArray([own], [1], "float64");
      const sent = startSend(told, others, tags.measure(part));
      const norms = Array.from({ length: world }, (_, from) => {
        if (from === rank) return own;
        const heard = empty([1], "float64");
        receive(heard, from, tags.measure(part));
        return item(heard);
      });
      awaitTicket(sent);
      return Math.sqrt(norms.reduce((sum, norm) => sum + norm * norm, 0));
    });

  const settle = (each: Waiting): void => {
    for (const coming of each.coming.splice(0)) addUp(each, coming);
    each.sent.splice(0).forEach(channel.wait);
    const measured = together(each.part, each.measure());
    exchangeWhole(each);
    if (needed === NO_ROWS) for (const gradient of Object.values(each.gradients)) keepRows(gradient, 0, 0);
    each.whole(measured);
  };

  return {
    beginsHere: true,
    enter() {
      if (ended) stage++;
      ended = false;
      while (waiting.length > 0 && waiting[0].stage < stage - DELAY) settle(waiting.shift() as Waiting);
    },
    begin() {},
    end(part, gradients, measure, whole) {
      ended = true;
      tags.measure(part);
      const sizes = Object.values(gradients).map(shape);
      const each: Waiting = { stage, part, gradients, sizes, sent: [], coming: [], measure, whole };
      waiting.push(each);
      begin(each);
    },
    pause() {},
    resume() {},
    finish() {
      while (waiting.length > 0) settle(waiting.shift() as Waiting);
    },
    giveUp() {
      for (const { sent, coming } of waiting) {
        sent.splice(0).forEach(channel.wait);
        for (const each of coming.flatMap(({ parts }) => parts)) if (each !== null) channel.wait(each.ticket);
      }
    },
    close() {
      for (const { sent, coming } of waiting.splice(0)) {
        sent.forEach(channel.drop);
        for (const each of coming.flatMap(({ parts }) => parts)) {
          if (each === null) continue;
          channel.drop(each.ticket);
          free(each.part);
        }
      }
    },
  };
}
