// Attention over tokens that several ranks hold (DeepSpeed-Ulysses, arXiv 2309.14509): from all heads of some tokens to
// some heads of all tokens and, after attention, back. Gradients go the opposite ways. Where all tokens are here,
// nothing moves.
import type { Context, Spread } from "../../model/context.js";
import { customFunction } from "../../torch/graph.js";
import { cat, contiguous, expand, narrow, reshape, transpose, unsqueeze, view } from "../../torch/ops.js";
import { free, scope } from "../../torch/scope.js";
import { shape, type Tensor } from "../../torch/tensor.js";
import { attend } from "./attend.js";

export interface Heads {
  q_THC: Tensor;
  k_UKC: Tensor;
  v_UKC: Tensor;
}

/**
 * `attend` in the context of a micro-batch; `sinks_H` has all heads. Frees queries, keys and values where ranks share
 * them.
 */
export function attendIn(
  { segments, ends_S, spread }: Pick<Context, "segments" | "ends_S" | "spread">,
  { q_THC, k_UKC, v_UKC }: Heads,
  { window = null, scale, sinks_H = null }: { window?: number | null; scale?: number; sinks_H?: Tensor | null },
): Tensor {
  const attended = ([q, k, v]: Tensor[], sinks: Tensor | null): Tensor =>
    attend(q, k, v, segments, window, scale, sinks, ends_S);
  const given = [q_THC, k_UKC, v_UKC];
  if (!spread) return attended(given, sinks_H);
  return scope(() => {
    const widths = given.map((t) => shape(t)[2]);
    const moved = toHeads(
      spread,
      given.map((t) => headsByRank(t, spread.tokens.length)),
    );
    free(...given);
    const own = moved.map((t_TN, i) => reshape(t_TN, [shape(t_TN)[0], -1, widths[i]]));
    return toTokens(spread, attended(own, sinks_H && ownPart(spread, sinks_H)));
  });
}

/** This rank's part of a tensor with equally many rows for each head. */
export function ownPart({ tokens, place }: Spread, t_HN: Tensor): Tensor {
  const each = shape(t_HN)[0] / tokens.length;
  return narrow(t_HN, 0, place * each, each);
}

/** [T, ranks, N]: a part of the heads for each rank; if heads are fewer than ranks, they are repeated. */
function headsByRank(t_THC: Tensor, ranks: number): Tensor {
  const [tokens, heads, width] = shape(t_THC);
  if (heads >= ranks) return reshape(t_THC, [tokens, ranks, (heads / ranks) * width]);
  const repeated = expand(unsqueeze(t_THC, 2), [tokens, heads, ranks / heads, width]);
  return reshape(repeated, [tokens, ranks, width]);
}

/**
 * From parts of this rank's tokens for every rank, [own tokens, ranks, N], to this rank's part of all tokens, [T, N].
 */
export function toHeads(spread: Spread, parts: Tensor[]): Tensor[] {
  const { tokens, place } = spread;
  const whole_TN = scope(() => {
    const rows_RTN = cat(
      parts.map((t_TRN) => transpose(t_TRN, 0, 1)),
      2,
    );
    return exchanged(
      spread,
      reshape(rows_RTN, [-1, shape(rows_RTN)[2]]),
      tokens.map(() => tokens[place]),
      tokens,
    );
  });
  let column = 0;
  return parts.map((t_TRN) => {
    const [, , width] = shape(t_TRN);
    column += width;
    return narrow(whole_TN, 1, column - width, width);
  });
}

/** The reverse, for one tensor: from [T, N] to [own tokens, ranks * N]. */
export function toTokens(spread: Spread, t_TN: Tensor): Tensor {
  const { tokens, place } = spread;
  const [own, width] = [tokens[place], shape(t_TN)[1]];
  return scope(() => {
    const rows_MN = exchanged(
      spread,
      // A view, because a custom function owns what it is given.
      view(t_TN, shape(t_TN)),
      tokens,
      tokens.map(() => own),
    );
    return reshape(transpose(reshape(rows_MN, [tokens.length, own, width]), 0, 1), [own, tokens.length * width]);
  });
}

const exchanged = (
  { exchange }: Spread,
  rows_MN: Tensor,
  sent: readonly number[],
  received: readonly number[],
): Tensor =>
  customFunction(
    [rows_MN],
    () => ({ output: exchange(contiguous(rows_MN), sent, received), saved: [] }),
    (dOut, out) => {
      free(out);
      return [exchange(contiguous(dOut), received, sent)];
    },
  );
