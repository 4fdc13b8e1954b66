// Block-wise 8-bit quantisation (Dettmers et al., arXiv 2110.02861, section 2; as in bitsandbytes): 256 elements share
// a scale, their largest magnitude. Each element becomes the nearest of the 256 values of a dynamic map, which has a
// decade of exponent and a fraction that is finer in higher decades. Tensors made here belong to the caller's scope.
import {
  abs,
  add_,
  addScalar_,
  amax,
  cast,
  clamp_,
  copy_,
  div_,
  gt,
  indexSelect,
  mul_,
  shiftRight,
  unbind,
  view,
  viewDtype,
} from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { fromArray, numel, type Tensor } from "../../torch/tensor.js";
import { range } from "../tiles.js";

export const BLOCK_ELEMENTS = 256;
const DECADES = 7;
/** Least divisor, so that a block of zeros divides nothing by zero. */
const SMALLEST_SCALE = 1e-38;

/** Values of the dynamic map in ascending order: 0, 1 and the middles of equal intervals of [0.1, 1] in each decade. */
export function dynamicMap(signed: boolean): number[] {
  const values = [0, 1];
  for (let decade = 0; decade < DECADES; decade++) {
    const count = 2 ** (signed ? decade : decade + 1);
    for (let i = 0; i < count; i++) {
      const value = 10 ** (decade - DECADES + 1) * (0.1 + (0.9 * (i + 0.5)) / count);
      values.push(value, ...(signed ? [-value] : []));
    }
  }
  return values.map(Math.fround).sort((a, b) => a - b);
}

interface Tables {
  /** The map's values; behind them, the middle between each value and the next, infinite behind the last. */
  map: number[];
  /** The code of the smallest float32 with given upper 16 bits; index 0 is the most negative pattern of bits. */
  lowest: Uint8Array;
}

/** The code is the number of bounds below a value, so a value on a bound goes down. */
const codeOf = (value: number, bounds: number[]): number => {
  let [low, high] = [0, bounds.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (bounds[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
};

function makeTables(signed: boolean): Tables {
  const code = dynamicMap(signed);
  const bounds = code.map((value, i) =>
    i + 1 < code.length ? Math.fround((value + code[i + 1]) / 2) : Number.POSITIVE_INFINITY,
  );
  const bits = new Int32Array(1);
  const value = new Float32Array(bits.buffer);
  const lowest = Uint8Array.from({ length: 65_536 }, (_, i) => {
    const high = i - 32_768;
    bits[0] = (high << 16) | (high < 0 ? 0xffff : 0);
    return Math.abs(value[0]) <= 1 ? codeOf(value[0], bounds) : value[0] > 1 ? 255 : 0;
  });
  return { map: [...code, ...bounds], lowest };
}

const made = new Map<boolean, Tables>();
function tables(signed: boolean): Tables {
  const found = made.get(signed) ?? makeTables(signed);
  made.set(signed, found);
  return found;
}

/** Calls `work` for all whole blocks at once, then for the rest as one smaller block. */
function eachPart(elements: number, work: (start: number, blocks: number, size: number) => void): void {
  const blocks = Math.floor(elements / BLOCK_ELEMENTS);
  const rest = elements % BLOCK_ELEMENTS;
  if (blocks > 0) work(0, blocks, BLOCK_ELEMENTS);
  if (rest > 0) work(elements - rest, 1, rest);
}

/** One map on a device. It lives as long as the caller's scope. */
export class BlockQuantizer {
  readonly #code: Tensor;
  readonly #bounds: Tensor;
  readonly #lowest: Tensor;

  constructor(signed: boolean, on: string) {
    const { map, lowest } = tables(signed);
    this.#lowest = fromArray(lowest, [lowest.length], "uint8", on);
    [this.#code, this.#bounds] = unbind(fromArray(map, [2, map.length / 2], "float32", on));
  }

  /** value = code[q] * scale of its block, float32. */
  decode(q_N: Tensor, scale_B: Tensor): Tensor {
    return scope(() => {
      const x_N = indexSelect(this.#code, 0, cast(q_N, "int32"));
      eachPart(numel(q_N), (start, blocks, size) => {
        mul_(
          view(range(x_N, start, blocks * size), [blocks, size]),
          view(range(scale_B, start / BLOCK_ELEMENTS, blocks), [blocks, 1]),
        );
      });
      return x_N;
    });
  }

  /** Stores `x_N` (float32) as codes and scales; may overwrite `x_N`. */
  encode(x_N: Tensor, q_N: Tensor, scale_B: Tensor): void {
    eachPart(numel(x_N), (start, blocks, size) =>
      scope(() => {
        const x_BN = view(range(x_N, start, blocks * size), [blocks, size]);
        const largest_B1 = scope(() => amax(abs(x_BN), [1], true));
        copy_(range(scale_B, start / BLOCK_ELEMENTS, blocks), view(largest_B1, [blocks]));
        const share_BN = clamp_(div_(x_BN, clamp_(largest_B1, SMALLEST_SCALE, null)), -1, 1);
        copy_(range(q_N, start, blocks * size), this.#nearest(view(share_BN, [-1])));
      }),
    );
  }

  // A search through 255 bounds is slow on a CPU. The upper 16 bits of a float32 give its code or the one below, since
  // no two bounds share these bits.
  #nearest(share_N: Tensor): Tensor {
    const code_N = scope(() => {
      const high_N = addScalar_(shiftRight(viewDtype(share_N, "int32"), 16), 32_768);
      return cast(indexSelect(this.#lowest, 0, high_N), "int32");
    });
    return add_(code_N, gt(share_N, indexSelect(this.#bounds, 0, code_N)));
  }
}
