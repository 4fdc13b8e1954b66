// What layers keep of all tokens so far, for one sequence; each layer has its own names. Rows, one for each token, lie
// in a buffer that doubles when it is full, so a new token does not copy earlier ones. States do not grow. The cache
// owns its tensors until `free`.
import type { LayerCache } from "../model/context.js";
import { cast, copy_, narrow } from "../torch/ops.js";
import { free, keep, scope } from "../torch/scope.js";
import { device, dtype, empty, shape, type Tensor } from "../torch/tensor.js";

interface Rows {
  buffer: Tensor;
  length: number;
}

export class GrowingCache implements LayerCache {
  readonly #rows = new Map<string, Rows>();
  readonly #states = new Map<number, Record<string, Tensor>>();

  /** `startTokens`: the number of tokens for which a layer has room at first. */
  constructor(readonly startTokens = 256) {}

  /** The returned tensors are views for the caller's scope; the next `extend` of the layer does not change them. */
  extend<Name extends string>(layer: number, rows: Record<Name, Tensor>): Record<Name, Tensor> {
    const all = Object.entries<Tensor>(rows).map(([name, added]) => [name, this.#append(`${layer} ${name}`, added)]);
    return Object.fromEntries(all) as Record<Name, Tensor>;
  }

  recall(layer: number): Record<string, Tensor> | null {
    return this.#states.get(layer) ?? null;
  }

  replace(layer: number, state: Record<string, Tensor>): void {
    const before = this.#states.get(layer);
    const copies = scope(() =>
      Object.entries(state).map(([name, tensor]) => [name, keep(cast(tensor, dtype(tensor), false, true))]),
    );
    this.#states.set(layer, Object.fromEntries(copies));
    if (before) free(...Object.values(before));
  }

  free(): void {
    for (const { buffer } of this.#rows.values()) free(buffer);
    for (const state of this.#states.values()) free(...Object.values(state));
    this.#rows.clear();
    this.#states.clear();
  }

  #append(key: string, added: Tensor): Tensor {
    const count = shape(added)[0];
    const cached = this.#rows.get(key) ?? { buffer: room(added, Math.max(this.startTokens, count)), length: 0 };
    this.#rows.set(key, cached);
    const length = cached.length + count;
    const capacity = shape(cached.buffer)[0];
    if (length > capacity) cached.buffer = grown(cached.buffer, cached.length, Math.max(2 * capacity, length));
    scope(() => void copy_(narrow(cached.buffer, 0, cached.length, count), added));
    cached.length = length;
    return narrow(cached.buffer, 0, 0, length);
  }
}

/** Room for `capacity` rows with the shape of those of `t`. */
const room = (t: Tensor, capacity: number): Tensor =>
  keep(empty([capacity, ...shape(t).slice(1)], dtype(t), device(t)));

/** A larger buffer with the first `length` tokens of `buffer`, which is freed. */
function grown(buffer: Tensor, length: number, capacity: number): Tensor {
  const larger = room(buffer, capacity);
  scope(() => void copy_(narrow(larger, 0, 0, length), narrow(buffer, 0, 0, length)));
  free(buffer);
  return larger;
}
