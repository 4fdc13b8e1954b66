// What came to a rank passes its experts: choices find the rows of their tokens, meet those of other ranks at each expert, and are added up by token.
// The graph belongs to the caller, all else to its scope.
import { type Experts, expertsOutput } from "../../model/expert-rows.js";
import { detach } from "../../torch/autograd.js";
import { customFunction, type Graph, record } from "../../torch/graph.js";
import { cast, indexSelect, narrow, reshape } from "../../torch/ops.js";
import { device, dtype, empty, shape, type Tensor, writeBytes } from "../../torch/tensor.js";
import { type Arrived, arrived, placesOfArrived, type RowSet, sum, sumsOfRows, totals } from "./token-rows.js";

export interface Came {
  /** A row of each token, `tokens` of each rank. */
  x_SD: Tensor;
  tokens: readonly number[];
  /** Gate and number of each choice; those of a rank are sorted by expert, of which it has `counts`, by rank. */
  choices_R2: Tensor;
  counts: readonly (readonly number[])[];
}

/** y_s = sum over its choices of gate expert(x_s), for every token; the graph from rows and gates [R, 1] where it is wanted and some choice came. */
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

/** For each choice the row of its token. */
function spreadOut(x_SD: Tensor, { token_R, sets }: Arrived): Tensor {
  const [tokens] = shape(x_SD);
  return customFunction(
    [reshape(x_SD, shape(x_SD))],
    () => ({ output: indexSelect(x_SD, 0, token_R), saved: sets.flatMap(({ token_N, row_N }) => [token_N, row_N]) }),
    (dx_RD, _output, saved) => [sumsOfRows(dx_RD, tokens, setsOf(saved))],
  );
}

/** The opposite: for each of so many tokens the sum of its choices' rows. */
const addedUp = (y_RD: Tensor, { token_R, sets }: Arrived, tokens: number): Tensor =>
  customFunction(
    [y_RD],
    () => ({ output: sumsOfRows(y_RD, tokens, sets), saved: [token_R] }),
    (dy_SD, _output, [rows]) => [indexSelect(dy_SD, 0, rows)],
  );

const setsOf = (tensors: readonly Tensor[]): RowSet[] =>
  tensors.flatMap((token_N, i) => (i % 2 === 0 ? [{ token_N, row_N: tensors[i + 1] }] : []));
