// Room for many tensors in few allocations. Pinned memory is given by powers of two, so that tensors by themselves would take up to twice what
// they hold; here they lie side by side in slabs that are powers of two, and what is left over is a few percent.
// Slabs are the caller's; so are the tensors, which are views of them.
import { narrow, view, viewDtype } from "../torch/ops.js";
import { keep, scope } from "../torch/scope.js";
import { type DType, DTYPES, type Tensor } from "../torch/tensor.js";

export interface Wanted {
  name: string;
  shape: readonly number[];
  dtype: DType;
}

const ALIGNMENT = 256;
const MOST_BYTES = 2 ** 33;

const sizeOf = ({ shape, dtype }: Wanted): number =>
  Math.ceil((shape.reduce((product, each) => product * each, 1) * DTYPES[dtype]) / ALIGNMENT) * ALIGNMENT;
const powerFor = (bytes: number): number => 2 ** Math.ceil(Math.log2(Math.max(bytes, ALIGNMENT)));

/** The sizes of slabs, and for each tensor which one holds it and from where. */
export function layOut(wanted: Wanted[]): { slabs: number[]; places: { slab: number; offset: number }[] } {
  const sizes = wanted.map(sizeOf);
  let left = sizes.reduce((sum, bytes) => sum + bytes, 0);
  const slabs: number[] = [];
  let used = 0;
  const places = sizes.map((bytes) => {
    if (slabs.length === 0 || used + bytes > slabs[slabs.length - 1]) {
      // Half of a power of two where that is nearer to what is left.
      const whole = Math.min(MOST_BYTES, powerFor(left));
      slabs.push(Math.max(powerFor(bytes), left > 0.75 * whole ? whole : whole / 2));
      used = 0;
    }
    const place = { slab: slabs.length - 1, offset: used };
    used += bytes;
    left -= bytes;
    return place;
  });
  return { slabs, places };
}

/** The tensors by name, with whatever `make` leaves in so many bytes. */
export function makeRoom(wanted: Wanted[], make: (bytes: number) => Tensor): { slabs: Tensor[]; tensors: Map<string, Tensor> } {
  const { slabs: sizes, places } = layOut(wanted);
  const slabs = sizes.map((bytes) => keep(make(bytes)));
  const tensors = wanted.map((each, i): [string, Tensor] => {
    const { slab, offset } = places[i];
    const bytes = each.shape.reduce((product, size) => product * size, 1) * DTYPES[each.dtype];
    return [each.name, keep(scope(() => view(viewDtype(narrow(slabs[slab], 0, offset, bytes), each.dtype), [...each.shape])))];
  });
  return { slabs, tensors: new Map(tensors) };
}
