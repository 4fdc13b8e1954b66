// A row for each choice of a token, sorted by expert, and what tokens get back from such rows. What is returned belongs to the caller's scope.
import { add_, arange, cast, expand, indexCopy_, indexSelect, reshape, select, unsqueeze } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { device, dtype, empty, fromValues, numel, shape, type Tensor } from "../../torch/tensor.js";

/** The token of each row, from the row of each choice. */
export const tokensOfRows = (places_TA: Tensor): Tensor =>
  scope(() => {
    const [tokens, choices] = shape(places_TA);
    const token_T1 = unsqueeze(arange(0, tokens, "int64", null, device(places_TA)), 1);
    return byRow(places_TA, expand(token_T1, [tokens, choices]));
  });

/** The number of each row, from that of each choice. */
export const byRow = (places_TA: Tensor, of_TA: Tensor): Tensor =>
  scope(() => {
    const made_R = empty([numel(places_TA)], dtype(of_TA), device(of_TA));
    return indexCopy_(made_R, 0, reshape(places_TA, [-1]), reshape(of_TA, [-1]));
  });

/** The opposite. */
export const byChoice = (places_TA: Tensor, of_R: Tensor): Tensor =>
  scope(() => reshape(indexSelect(of_R, 0, reshape(places_TA, [-1])), shape(places_TA)));

/** For each token the sum of its rows, in the order of its choices. */
export function sumsOfRows(places_TA: Tensor, of_RD: Tensor): Tensor {
  const [, choices] = shape(places_TA);
  return scope(() => {
    const rowsOf = (choice: number): Tensor => indexSelect(of_RD, 0, select(places_TA, 1, choice));
    const sum_TD = cast(rowsOf(0), dtype(of_RD) === "float64" ? "float64" : "float32");
    for (let choice = 1; choice < choices; choice++) scope(() => void add_(sum_TD, rowsOf(choice)));
    return cast(sum_TD, dtype(of_RD));
  });
}

/** Where rows go that came from several ranks, each rank's sorted by expert (`counts`, by rank), when they are sorted by expert and then by rank. */
export function placesOfArrived(counts: readonly (readonly number[])[], on: string): Tensor {
  const rows = counts.flat().reduce((sum, count) => sum + count, 0);
  const places = (): Int32Array => {
    const made = new Int32Array(rows);
    const next = startsOf(totals(counts));
    let row = 0;
    for (const ofRank of counts)
      for (const [expert, count] of ofRank.entries()) for (let i = 0; i < count; i++) made[row++] = next[expert]++;
    return made;
  };
  return scope(() => cast(fromValues(places, [rows, 1], "int32", on), "int64"));
}

/** Of every column. */
export const totals = (counts: readonly (readonly number[])[]): number[] =>
  (counts[0] ?? []).map((_, i) => counts.reduce((sum, each) => sum + each[i], 0));

function startsOf(sizes: readonly number[]): number[] {
  let end = 0;
  return sizes.map((size) => (end += size) - size);
}
