// Keys and values of all tokens so far, per layer, for one sequence. Each layer has a buffer that doubles when it is
// full, so a token costs no copy of what came before. The cache owns its tensors until `free`.
import type { KeyValueCache } from "../model/attention/attend.js";
import { copy_, narrow } from "../torch/ops.js";
import { free, keep, scope } from "../torch/scope.js";
import { device, dtype, empty, shape, type Tensor } from "../torch/tensor.js";

interface LayerCache {
  keys: Tensor;
  values: Tensor;
  length: number;
}

export class GrowingCache implements KeyValueCache {
  readonly #layers = new Map<number, LayerCache>();

  /** `startTokens`: for how many tokens a layer has room at first. */
  constructor(readonly startTokens = 256) {}

  /** The returned tensors are views for the caller's scope; the next `extend` of the layer does not change them. */
  extend(layer: number, keys_TKC: Tensor, values_TKC: Tensor): { keys_TKC: Tensor; values_TKC: Tensor } {
    const rows = shape(keys_TKC)[0];
    const cached = this.#layers.get(layer) ?? this.#open(layer, keys_TKC, values_TKC);
    const length = cached.length + rows;
    const capacity = shape(cached.keys)[0];
    if (length > capacity) {
      cached.keys = grown(cached.keys, cached.length, Math.max(2 * capacity, length));
      cached.values = grown(cached.values, cached.length, Math.max(2 * capacity, length));
    }
    scope(() => {
      copy_(narrow(cached.keys, 0, cached.length, rows), keys_TKC);
      copy_(narrow(cached.values, 0, cached.length, rows), values_TKC);
    });
    cached.length = length;
    return { keys_TKC: narrow(cached.keys, 0, 0, length), values_TKC: narrow(cached.values, 0, 0, length) };
  }

  free(): void {
    for (const { keys, values } of this.#layers.values()) free(keys, values);
    this.#layers.clear();
  }

  #open(layer: number, keys_TKC: Tensor, values_TKC: Tensor): LayerCache {
    const capacity = Math.max(this.startTokens, shape(keys_TKC)[0]);
    const opened = { keys: room(keys_TKC, capacity), values: room(values_TKC, capacity), length: 0 };
    this.#layers.set(layer, opened);
    return opened;
  }
}

/** Room for `capacity` tokens that are like those of `t`. */
const room = (t: Tensor, capacity: number): Tensor =>
  keep(empty([capacity, ...shape(t).slice(1)], dtype(t), device(t)));

/** A larger buffer with the first `length` tokens of `buffer`, which is freed. */
function grown(buffer: Tensor, length: number, capacity: number): Tensor {
  const larger = room(buffer, capacity);
  scope(() => void copy_(narrow(larger, 0, 0, length), narrow(buffer, 0, 0, length)));
  free(buffer);
  return larger;
}
