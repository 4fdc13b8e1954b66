// What a micro-batch carries through every block: document lengths, tables of positions, the routing of its tokens, and, when
// generating, what each layer keeps of the tokens before. Its tensors belong to whoever made the context.
import { isCpu } from "../torch/device.js";
import { free } from "../torch/scope.js";
import { type DType, fromArray, type Tensor } from "../torch/tensor.js";
import { type Rotary, type RotaryTables, rotaryTables } from "./rotary.js";
import type { RouterObserver, Routing } from "./routing.js";

/** What layers keep of earlier tokens, each under names of its own. */
export interface LayerCache {
  /** Appends rows, one for each new token, to those of the same names, and returns all of them. */
  extend<Name extends string>(layer: number, rows: Record<Name, Tensor>): Record<Name, Tensor>;
  /** What `replace` kept last for the layer; null where it has kept nothing. */
  recall(layer: number): Record<string, Tensor> | null;
  /** Keeps copies of tensors that do not grow, in place of those of before. */
  replace(layer: number, state: Record<string, Tensor>): void;
}

/**
 * How several hold a micro-batch together: each some of its tokens, one behind the other, and for attention some heads of all of them. All of them
 * make the same calls in the same order.
 */
export interface Spread {
  /** How many tokens each has, in order. */
  readonly tokens: readonly number[];
  /** This one's place among them, and its first token. */
  readonly place: number;
  readonly first: number;
  /** The first `sent[0]` rows go to the first of them, and so on; returns what they sent, in their order, `received[i]` rows from each. */
  exchange(rows: Tensor, sent: readonly number[], received: readonly number[]): Tensor;
  /** What each of them gives, in order. */
  each(value: number): number[];
}

export interface Context {
  /** Document lengths in order; attention stays inside a document. Of all tokens, where several hold them. */
  segments: number[];
  /** 0 and where each document ends (int32), on a GPU; brought there once, since it is waited for. Null on a CPU, and with a cache. */
  ends_S: Tensor | null;
  /** By their index in `Architecture.rotary`. */
  rotary: RotaryTables[];
  computeDtype: DType;
  routing: Routing;
  cache?: LayerCache;
  /** Where others hold tokens of it, too; else all are here. Tables and routing are of those that are. */
  spread?: Spread;
  /** In training alone: what looks at the router's logits, and noise on the input of a layer with experts.
   * A tile are the rows from `first` on, of so many tokens in all, those that others hold among them. */
  routerObserver?: RouterObserver;
  jitter?: (h_ND: Tensor, layer: number, tile?: { first: number; tokens: number }) => Tensor;
}

/** The caller frees it. `length` counts the positions of the whole text where these are a part of it; else it is that of the longest document. */
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

/** Of documents one behind the other: 0 and where each ends, int32. */
export function endsOf(segments: readonly number[], device: string): Tensor {
  const ends = [0];
  for (const length of segments) ends.push(ends[ends.length - 1] + length);
  return fromArray(ends, [ends.length], "int32", device);
}

export const freeContext = ({ ends_S, rotary }: Context): void =>
  free(...(ends_S === null ? [] : [ends_S]), ...rotary.flatMap(({ cos_TR, sin_TR }) => [cos_TR, sin_TR]));
