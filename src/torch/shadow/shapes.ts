// Sizes and strides as libtorch computes them; they decide what is a view and what has to be copied. Pure functions.

export function countOf(sizes: readonly number[]): number {
  let count = 1;
  for (const size of sizes) count *= size;
  return count;
}

export function rowMajor(sizes: readonly number[]): number[] {
  const strides = new Array<number>(sizes.length);
  for (let i = sizes.length - 1, step = 1; i >= 0; i--) {
    strides[i] = step;
    step *= Math.max(1, sizes[i]);
  }
  return strides;
}

export function isContiguous(sizes: readonly number[], strides: readonly number[]): boolean {
  for (let i = sizes.length - 1, step = 1; i >= 0; i--) {
    if (sizes[i] === 1) continue;
    if (strides[i] !== step) return false;
    step *= sizes[i];
  }
  return true;
}

/** Whether the elements fill their memory without gaps, in any order of dimensions. */
export function isDense(sizes: readonly number[], strides: readonly number[]): boolean {
  const order = [...sizes.keys()].filter((i) => sizes[i] !== 1).sort((a, b) => strides[a] - strides[b]);
  let step = 1;
  for (const i of order) {
    if (strides[i] !== step) return false;
    step *= sizes[i];
  }
  return true;
}

/** Strides of a new tensor: with the order of dimensions of a dense one; for any other, row-major. */
export const stridesLike = (sizes: readonly number[], strides: readonly number[]): number[] =>
  isContiguous(sizes, strides) || isDense(sizes, strides) ? [...strides] : rowMajor(sizes);

/** The sizes to which both are broadcast. */
export function broadcast(a: readonly number[], b: readonly number[]): number[] {
  const [longer, shorter] = a.length >= b.length ? [a, b] : [b, a];
  const sizes = [...longer];
  for (let i = 1; i <= shorter.length; i++) {
    const at = sizes.length - i;
    if (sizes[at] === 1) sizes[at] = shorter[shorter.length - i];
  }
  return sizes;
}

/** Sizes with one -1 filled in. */
export function inferred(sizes: readonly number[], count: number): number[] {
  const known = sizes.reduce((product, size) => (size < 0 ? product : product * size), 1);
  return sizes.map((size) => (size < 0 ? count / known : size));
}

/** Strides of a view with other sizes, or null if only a copy can have them (at::detail::computeStride). */
export function viewStrides(
  sizes: readonly number[],
  strides: readonly number[],
  wanted: readonly number[],
): number[] | null {
  if (countOf(sizes) === 0 || sizes.length === 0) return rowMajor(wanted);
  const made = new Array<number>(wanted.length);
  let at = wanted.length - 1;
  let base = strides[strides.length - 1];
  let [chunk, filled] = [1, 1];
  for (let i = sizes.length - 1; i >= 0; i--) {
    chunk *= sizes[i];
    // A chunk of dimensions ends where the one before it does not continue it in memory.
    if (i > 0 && (sizes[i - 1] === 1 || strides[i - 1] === chunk * base)) continue;
    while (at >= 0 && (filled < chunk || wanted[at] === 1)) {
      made[at] = filled * base;
      filled *= wanted[at];
      at--;
    }
    if (filled !== chunk) return null;
    if (i > 0) {
      base = strides[i - 1];
      [chunk, filled] = [1, 1];
    }
  }
  return at === -1 ? made : null;
}

/** Strides of an expanded tensor: 0 where a size of 1 is repeated. */
export function expandStrides(
  sizes: readonly number[],
  strides: readonly number[],
  wanted: readonly number[],
): number[] {
  const offset = wanted.length - sizes.length;
  return wanted.map((size, i) => (i < offset || (sizes[i - offset] === 1 && size !== 1) ? 0 : strides[i - offset]));
}

/** `dim`, counted from the end if it is negative. */
export const dimOf = (dim: number, rank: number): number => (dim < 0 ? dim + rank : dim);
