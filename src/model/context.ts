// What a micro-batch carries through every block: document lengths, tables of positions, the routing of its tokens,
// and, in generation, what each layer keeps of earlier tokens. Whoever made the context owns its tensors.
import { isCpu } from "../torch/device.js";
import { free } from "../torch/scope.js";
import { type DType, fromArray, type Tensor } from "../torch/tensor.js";
import { type Rotary, type RotaryTables, rotaryTables } from "./rotary.js";
import type { RouterObserver, Routing } from "./routing.js";

/** What layers keep of earlier tokens; each layer has its own names. */
export interface LayerCache {
  /** Appends one row for each new token to the rows kept under the same names, and returns all rows. */
  extend<Name extends string>(layer: number, rows: Record<Name, Tensor>): Record<Name, Tensor>;
  /** What `replace` kept last for the layer; null if nothing. */
  recall(layer: number): Record<string, Tensor> | null;
  /** Keeps copies of tensors that do not grow, instead of those kept before. */
  replace(layer: number, state: Record<string, Tensor>): void;
}

/**
 * How several ranks hold a micro-batch together: each has a run of its tokens and, inside attention, some heads of all
 * tokens. All ranks make the same calls in the same order.
 */
export interface Spread {
  /** Each rank's number of tokens, in order. */
  readonly tokens: readonly number[];
  /** This rank's place among them, and its first token. */
  readonly place: number;
  readonly first: number;
  /**
   * Sends the first `sent[0]` rows to the first rank, and so on. Returns the rows that the ranks sent, in order:
   * `received[i]` rows of rank i.
   */
  exchange(rows: Tensor, sent: readonly number[], received: readonly number[]): Tensor;
  /** Every rank's value, in order. */
  each(value: number): number[];
}

export interface Context {
  /**
   * Document lengths in order; attention stays inside a document. With `spread`, they are those of all ranks' tokens.
   */
  segments: number[];
  /**
   * On a GPU: 0 and where each document ends (int32), brought there once, since each time waits for the GPU. Null on a
   * CPU, and with a cache.
   */
  ends_S: Tensor | null;
  /** Tables by their index in `Architecture.rotary`. */
  rotary: RotaryTables[];
  computeDtype: DType;
  routing: Routing;
  cache?: LayerCache;
  /** Set where other ranks hold tokens of the micro-batch. Tables and routing cover only the tokens held here. */
  spread?: Spread;
  /**
   * Only in training: what looks at the router's logits, and the noise on the input of a layer with experts. A tile is
   * the rows from `first` on, out of `tokens` in all, other ranks' included.
   */
  routerObserver?: RouterObserver;
  jitter?: (h_ND: Tensor, layer: number, tile?: { first: number; tokens: number }) => Tensor;
}

/**
 * Makes a context; the caller frees it. `length` is the number of positions of the whole text, if these are a part of
 * it; by default that of the longest document.
 */
export function makeContext(
  { rotary }: { rotary: Rotary[] },
  positions_T: ArrayLike<number>,
  segments: number[],
  options: {
    computeDtype: DType;
    device: string;
    routing: Routing;
    cache?: LayerCache;
    spread?: Spread;
    length?: number;
  },
): Context {
  const { computeDtype, device, routing, cache, spread } = options;
  const length = options.length ?? segments.reduce((most, own) => Math.max(most, own), 0);
  const tables = rotary.map((each) => rotaryTables(each, positions_T, length, options));
  return {
    segments,
    ends_S: isCpu(device) || cache ? null : endsOf(segments, device),
    rotary: tables,
    computeDtype,
    routing,
    cache,
    spread,
  };
}

/** 0 and where each of consecutive documents ends, int32. */
export function endsOf(segments: readonly number[], device: string): Tensor {
  const ends = [0];
  for (const length of segments) ends.push(ends[ends.length - 1] + length);
  return fromArray(ends, [ends.length], "int32", device);
}

export const freeContext = ({ ends_S, rotary }: Context): void =>
  free(...(ends_S === null ? [] : [ends_S]), ...rotary.flatMap(({ cos_TR, sin_TR }) => [cos_TR, sin_TR]));
