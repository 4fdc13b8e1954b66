// Rows for the ranks that hold experts: each token goes once to every rank that it needs; each of its choices sends a
// gate and the number of that row. On the way back, rows of choices, sorted by expert, are added up by token. Results
// belong to the caller's scope.
import { arange, cast, indexAdd_, indexCopy_, indexSelect, narrow, reshape } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import {
  device,
  type DType,
  dtype,
  empty,
  fromValues,
  numel,
  shape,
  type Tensor,
  valuesIfAny,
  zeros,
} from "../../torch/tensor.js";

/** Tokens, each at most once, and one row of each. */
export interface RowSet {
  token_N: Tensor;
  row_N: Tensor;
}

/** What one rank sends. */
export interface Outgoing {
  /** Number of tokens that go to each rank. */
  tokens: number[];
  /** The token of each row that is sent, rank by rank. */
  token_S: Tensor;
  /** For each choice, sorted by expert, the number of its token among those that go to the same rank. */
  number_R: Tensor;
}

/**
 * What is sent for choices whose rows have the places `places_TA` when sorted by expert; `choices` of them are for each
 * rank, in order. `expected` gives each rank's number of tokens for an engine without elements. Numbers are of `type`,
 * which must hold them exactly.
 */
export function outgoing(
  places_TA: Tensor,
  choices: readonly number[],
  expected: () => readonly number[],
  type: DType,
): Outgoing {
  const places = valuesIfAny(places_TA);
  const on = device(places_TA);
  const rows = numel(places_TA);
  const found = places === null ? null : tokensByRank(places, shape(places_TA), choices);
  const tokens = found?.tokens ?? [...expected()];
  return {
    tokens,
    token_S: indices(() => found?.sent ?? [], sum(tokens), on),
    number_R: scope(() =>
      cast(
        fromValues(() => found?.numbers ?? [], [rows], "int32", on),
        type,
      ),
    ),
  };
}

function tokensByRank(places: ArrayLike<number>, [tokens, perToken]: number[], choices: readonly number[]) {
  const tokenOf = new Int32Array(places.length);
  for (let i = 0; i < places.length; i++) tokenOf[places[i]] = Math.floor(i / perToken);
  const numbers = new Int32Array(places.length);
  const numberOf = new Int32Array(tokens);
  const lastRank = new Int32Array(tokens).fill(-1);
  const sent: number[] = [];
  let row = 0;
  const counts = choices.map((count, rank) => {
    const before = sent.length;
    for (const end = row + count; row < end; row++) {
      const token = tokenOf[row];
      if (lastRank[token] !== rank) {
        lastRank[token] = rank;
        numberOf[token] = sent.length - before;
        sent.push(token);
      }
      numbers[row] = numberOf[token];
    }
    return sent.length - before;
  });
  return { tokens: counts, sent, numbers };
}

/** Rows that came back, `tokens` of them from each rank, as one set for each rank. */
export function setsByRank(token_S: Tensor, tokens: readonly number[]): RowSet[] {
  let first = 0;
  return tokens.map((count) => {
    const row_N = arange(first, first + count, "int64", null, device(token_S));
    const token_N = narrow(token_S, 0, first, count);
    first += count;
    return { token_N, row_N };
  });
}

/**
 * What one rank gets: for each choice the row of its token among all that came, and the choices as sets; a set has at
 * most one choice of every token.
 */
export interface Arrived {
  token_R: Tensor;
  sets: RowSet[];
}

/** `number_R` as the ranks sent them: `choices` of each rank, which refer to its `tokens`. */
export function arrived(number_R: Tensor, choices: readonly number[], tokens: readonly number[]): Arrived {
  const values = valuesIfAny(number_R);
  const on = device(number_R);
  const [rows] = shape(number_R);
  const sizes = evenSets(rows, sum(tokens));
  const found = values === null ? null : sharedOut(values, choices, tokens);
  const of = (pick: "tokens" | "rows"): Tensor[] =>
    (found?.sets ?? sizes).map((set, i) =>
      indices(() => found?.sets[i][pick] ?? [], typeof set === "number" ? set : set.tokens.length, on),
    );
  const [tokensOf, rowsOf] = [of("tokens"), of("rows")];
  return {
    token_R: indices(() => found?.tokenOf ?? [], rows, on),
    sets: tokensOf.map((token_N, i) => ({ token_N, row_N: rowsOf[i] })),
  };
}

function sharedOut(numbers: ArrayLike<number>, choices: readonly number[], tokens: readonly number[]) {
  const tokenOf = new Int32Array(numbers.length);
  const taken = new Int32Array(sum(tokens));
  const sets: { tokens: number[]; rows: number[] }[] = [];
  let [row, first] = [0, 0];
  for (const [rank, count] of choices.entries()) {
    for (const end = row + count; row < end; row++) {
      const token = first + numbers[row];
      tokenOf[row] = token;
      const set = (sets[taken[token]++] ??= { tokens: [], rows: [] });
      set.tokens.push(token);
      set.rows.push(row);
    }
    first += tokens[rank];
  }
  return { tokenOf, sets };
}

/** Sizes of sets in which all tokens appear equally often, give or take one. */
function evenSets(rows: number, tokens: number): number[] {
  const sizes: number[] = [];
  for (let left = rows; left > 0; left -= tokens) sizes.push(Math.min(left, tokens));
  return sizes;
}

/** For each of `tokens` tokens the sum of its rows, set by set, in float32 or wider. */
export function sumsOfRows(of_RD: Tensor, tokens: number, sets: readonly RowSet[]): Tensor {
  const type = dtype(of_RD);
  const wide = type === "float64" ? "float64" : "float32";
  return scope(() => {
    const sum_TD = zeros([tokens, ...shape(of_RD).slice(1)], wide, device(of_RD));
    for (const { token_N, row_N } of sets)
      scope(() => void indexAdd_(sum_TD, 0, token_N, cast(indexSelect(of_RD, 0, row_N), wide)));
    return cast(sum_TD, type);
  });
}

/** The number of each row, from the number of each choice. */
export const byRow = (places_TA: Tensor, of_TA: Tensor): Tensor =>
  scope(() => {
    const made_R = empty([numel(places_TA)], dtype(of_TA), device(of_TA));
    return indexCopy_(made_R, 0, reshape(places_TA, [-1]), reshape(of_TA, [-1]));
  });

/** The opposite: the number of each choice, from the number of each row. */
export const byChoice = (places_TA: Tensor, of_R: Tensor): Tensor =>
  scope(() => reshape(indexSelect(of_R, 0, reshape(places_TA, [-1])), shape(places_TA)));

/**
 * For rows from several ranks, each rank's sorted by expert (`counts`, by rank): their places when sorted by expert and
 * then by rank.
 */
export function placesOfArrived(counts: readonly (readonly number[])[], on: string): Tensor {
  const rows = counts.flat().reduce((total, count) => total + count, 0);
  const places = (): Int32Array => {
    const made = new Int32Array(rows);
    const next = startsOf(totals(counts));
    let row = 0;
    for (const ofRank of counts)
      for (const [expert, count] of ofRank.entries()) for (let i = 0; i < count; i++) made[row++] = next[expert]++;
    return made;
  };
  return scope(() => reshape(indices(places, rows, on), [rows, 1]));
}

/** The sum of every column. */
export const totals = (counts: readonly (readonly number[])[]): number[] =>
  (counts[0] ?? []).map((_, i) => counts.reduce((total, each) => total + each[i], 0));

export const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);

/** Copied to the device as int32, which is half the bytes. */
const indices = (valuesOf: () => ArrayLike<number>, count: number, on: string): Tensor =>
  scope(() => cast(fromValues(valuesOf, [count], "int32", on), "int64"));

function startsOf(sizes: readonly number[]): number[] {
  let end = 0;
  return sizes.map((size) => (end += size) - size);
}
