// For tests: the experts' operator on sorted rows, one for each token, with gates of 1.
import { hasKernels } from "../kernels/kernels.js";
import { dtype, empty, fromArray, full, shape, type Tensor, writeBytes } from "../tensor.js";
import { type ExpertActivation, groupedExperts } from "./experts.js";

/** A tensor with the number of rows of each expert; the engine that counts reads it, too. */
export function countsOf(rows: number[]): Tensor {
  const counts = empty([rows.length], "int64");
  writeBytes(counts, 0, new Uint8Array(BigInt64Array.from(rows, BigInt).buffer));
  return counts;
}

/** y for the rows x, of which each expert has as many as `rows` says. */
export function expertsOnRows(
  x: Tensor,
  gateUp: Tensor[],
  down: Tensor[],
  rows: number[],
  { biases = [], kept = [] }: { biases?: Tensor[]; kept?: Tensor[] } = {},
  ...activation: [name?: ExpertActivation, interleaved?: boolean, limit?: number, alpha?: number]
): Tensor {
  const [count] = shape(x);
  const isWide = dtype(x) === "float64";
  const gates = full([count, 1], 1, isWide ? "float64" : "float32");
  const places = fromArray([...Array(count).keys()], [count, 1], "int64");
  const fused = !isWide && hasKernels("cpu");
  return groupedExperts(x, gates, places, countsOf(rows), null, gateUp, down, biases, kept, null, fused, ...activation);
}
