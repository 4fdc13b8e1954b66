// Many tensors in few allocations. Pinned memory comes in powers of two, so single tensors would take up to twice their
// bytes. Here they lie side by side in slabs of such sizes, and a few percent are unused. The caller owns the slabs and
// the tensors, which are views of them.
import { narrow, view, viewDtype } from "../torch/ops.js";
import { free, keep, scope } from "../torch/scope.js";
import { type DType, DTYPES, type Tensor } from "../torch/tensor.js";

export interface Wanted {
  name: string;
  shape: readonly number[];
  dtype: DType;
}

const ALIGNMENT = 256;
const MOST_BYTES = 2 ** 34;

const sizeOf = ({ shape, dtype }: Wanted): number =>
  Math.ceil((shape.reduce((product, each) => product * each, 1) * DTYPES[dtype]) / ALIGNMENT) * ALIGNMENT;

/**
 * Sizes of slabs, and for each tensor its slab and offset. A tensor goes to the first slab with enough room. If there
 * is none, a new slab is made, as large as the remaining tensors can fill.
 */
export function layOut(wanted: Wanted[]): { slabs: number[]; places: { slab: number; offset: number }[] } {
  const sizes = wanted.map(sizeOf);
  let left = sizes.reduce((sum, bytes) => sum + bytes, 0);
  const slabs: { bytes: number; used: number }[] = [];
  const places = sizes.map((bytes) => {
    let slab = slabs.findIndex(({ bytes: all, used }) => used + bytes <= all);
    if (slab < 0) {
      const least = 2 ** Math.ceil(Math.log2(Math.max(bytes, ALIGNMENT)));
      const useful = Math.min(MOST_BYTES, 2 ** Math.floor(Math.log2(Math.max(left, ALIGNMENT))));
      slab = slabs.push({ bytes: Math.max(least, useful), used: 0 }) - 1;
    }
    const place = { slab, offset: slabs[slab].used };
    slabs[slab].used += bytes;
    left -= bytes;
    return place;
  });
  return { slabs: slabs.map(({ bytes }) => bytes), places };
}

/** Makes the slabs with `make`, and the tensors in them by name; their values are whatever `make` leaves. */
export function allocateSlabs(
  wanted: Wanted[],
  make: (bytes: number) => Tensor,
): { slabs: Tensor[]; tensors: Map<string, Tensor> } {
  const { slabs: sizes, places } = layOut(wanted);
  const slabs: Tensor[] = [];
  try {
    for (const bytes of sizes) slabs.push(keep(make(bytes)));
  } catch (failure) {
    free(...slabs);
    throw failure;
  }
  const tensors = wanted.map((each, i): [string, Tensor] => {
    const { slab, offset } = places[i];
    const bytes = each.shape.reduce((product, size) => product * size, 1) * DTYPES[each.dtype];
    return [
      each.name,
      keep(scope(() => view(viewDtype(narrow(slabs[slab], 0, offset, bytes), each.dtype), [...each.shape]))),
    ];
  });
  return { slabs, tensors: new Map(tensors) };
}
