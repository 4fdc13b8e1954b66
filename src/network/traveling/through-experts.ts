// Passes the rows that came to a rank through its experts: each choice finds the row of its token, all ranks' choices
// of an expert are computed together, and results are added up by token. The graph belongs to the caller, all else to
// its scope.
import { type Experts, expertsOutput } from "../../model/expert-rows.js";
import { detach } from "../../torch/autograd.js";
import { customFunction, type Graph, record } from "../../torch/graph.js";
import { cast, indexSelect, narrow, reshape } from "../../torch/ops.js";
import { device, dtype, empty, shape, type Tensor, writeBytes } from "../../torch/tensor.js";
import { type Arrived, arrived, placesOfArrived, type RowSet, sum, sumsOfRows, totals } from "./token-rows.js";

export interface Came {
  /** One row for each token, `tokens` of them from each rank. */
  x_SD: Tensor;
  tokens: readonly number[];
  /** Gate and row number of each choice, by rank; a rank's choices are sorted by expert, `counts` of them for each. */
  choices_R2: Tensor;
  counts: readonly (readonly number[])[];
}

/**
 * y_s = sum over its choices of gate expert(x_s), for every token; with the graph from rows and gates [R, 1], if it is
 * wanted and there are choices.
 */
export function throughExperts(
  { x_SD, tokens, choices_R2, counts }: Came,
  expertsOf: () => Experts,
  isRecorded: boolean,
): { y_SD: Tensor; graph: Graph | null } {
  const all = totals(counts);
  if (sum(all) === 0) return { y_SD: x_SD, graph: null };
  const counts_E = empty([all.length], "int64");
  writeBytes(counts_E, 0, new Uint8Array(BigInt64Array.from(all, BigInt).buffer));
  const chosen = { places_TA: placesOfArrived(counts, device(x_SD)), counts_E, known_E: counts_E };
  const column = (at: number): Tensor => narrow(choices_R2, 1, at, 1);
  const rows = arrived(reshape(column(1), [-1]), counts.map(sum), tokens);
  const experts = expertsOf();
  const output = (x: Tensor, gates_R1: Tensor): Tensor =>
    addedUp(expertsOutput(spreadOut(x, rows), { ...chosen, gates_TA: gates_R1 }, experts), rows, shape(x)[0]);
  const gates_R1 = cast(column(0), dtype(choices_R2), false, true);
  if (!isRecorded) return { y_SD: output(x_SD, gates_R1), graph: null };
  const graph = record([x_SD, gates_R1], output);
  return { y_SD: detach(graph.y), graph };
}

/** The row of each choice's token. */
function spreadOut(x_SD: Tensor, { token_R, sets }: Arrived): Tensor {
  const [tokens] = shape(x_SD);
  return customFunction(
    [reshape(x_SD, shape(x_SD))],
    () => ({ output: indexSelect(x_SD, 0, token_R), saved: sets.flatMap(({ token_N, row_N }) => [token_N, row_N]) }),
    (dx_RD, _output, saved) => [sumsOfRows(dx_RD, tokens, setsOf(saved))],
  );
}

/** The opposite: for each of `tokens` tokens, the sum of the rows of its choices. */
const addedUp = (y_RD: Tensor, { token_R, sets }: Arrived, tokens: number): Tensor =>
  customFunction(
    [y_RD],
    () => ({ output: sumsOfRows(y_RD, tokens, sets), saved: [token_R] }),
    (dy_SD, _output, [rows]) => [indexSelect(dy_SD, 0, rows)],
  );

const setsOf = (tensors: readonly Tensor[]): RowSet[] =>
  tensors.flatMap((token_N, i) => (i % 2 === 0 ? [{ token_N, row_N: tensors[i + 1] }] : []));
