// What rank 0 reads of tensors that others hold, while it does alone what needs all of them, one after the other: a save. It asks, all hear it, and who
// has them sends them; until it is done the others do nothing else. Tensors are the caller's.
import { copy_, narrow, view } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import type { Tensor } from "../torch/tensor.js";
import type { Collectives, RemoteReads } from "./collectives.js";

/** `count` elements from `first` on of what a rank holds under a name. */
export interface Wanted {
  name: string;
  from: number;
  first: number;
  count: number;
}

export class SharedReads {
  readonly #ranks: Collectives;
  readonly #own: () => ReadonlyMap<string, Tensor>;
  #session: { reads: RemoteReads; own: ReadonlyMap<string, Tensor>; asked: number } | null = null;

  /** `own` are the tensors that this rank holds now. */
  constructor(ranks: Collectives, own: () => ReadonlyMap<string, Tensor>) {
    this.#ranks = ranks;
    this.#own = own;
  }

  /** Of all ranks but the first: sends what it asks for, until it has ended. */
  serve(): void {
    const { reads, own } = this.#begin();
    try {
      for (let number = 0; ; number++) {
        const wanted = this.#hear(null);
        if (wanted === null) return;
        if (wanted.from !== this.#ranks.rank) continue;
        scope(() => reads.offer(number, range(own.get(wanted.name) as Tensor, wanted), [0]));
        reads.settled(number);
      }
    } finally {
      this.#end();
    }
  }

  /** Of the first rank: `work` may read. */
  reading<T>(work: () => T): T {
    this.#begin();
    try {
      return work();
    } finally {
      this.#hear(null);
      this.#end();
    }
  }

  /** The same of work that takes its time. */
  async readingLater<T>(work: () => Promise<T>): Promise<T> {
    this.#begin();
    try {
      return await work();
    } finally {
      this.#hear(null);
      this.#end();
    }
  }

  /** Into a tensor of as many elements. Inside of `reading`. */
  read(wanted: Wanted, into: Tensor): void {
    const session = this.#session;
    if (session === null) throw new Error("tensors of other ranks are read outside of what they serve");
    if (wanted.from === this.#ranks.rank) {
      scope(() => void copy_(view(into, [-1]), range(session.own.get(wanted.name) as Tensor, wanted)));
      return;
    }
    this.#hear(wanted);
    session.reads.read(session.asked++, wanted.from, into)();
  }

  #begin() {
    const session = { reads: this.#ranks.reads(), own: this.#own(), asked: 0 };
    this.#session = session;
    return session;
  }

  #end(): void {
    this.#session?.reads.close();
    this.#session = null;
  }

  /** What the first rank asks for; null at the end. */
  #hear = (wanted: Wanted | null): Wanted | null => this.#ranks.gather(wanted)[0];
}

const range = (tensor: Tensor, { first, count }: Wanted): Tensor => narrow(view(tensor, [-1]), 0, first, count);
