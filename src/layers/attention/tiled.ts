// Exact attention where the engine has no fused form: tiles of queries, each over chunks of the keys that it sees, so
// scores never exist for more than a tile. Kept are the output and one number per query and head; the backward pass
// forms scores again, chunk by chunk.
//   S = q k^T / sqrt(C) + mask,  L = logsumexp(S),  P = exp(S - L),  o = P v
//   dv = P^T do,  dS = P * (do v^T - rowsum(do * o)),  dq = dS k / sqrt(C),  dk = dS^T q / sqrt(C)
// (FlashAttention-2, arXiv 2307.08691, algorithms 1 and 2). A sink z of a head (StreamingLLM, arXiv 2309.17453;
// gpt-oss) is one more score of every query, for a key with value 0:
//   L = logsumexp([S, z]),  dz = -sum over queries of exp(z - L) rowsum(do * o)
import { customFunction, ownInput } from "../../torch/graph.js";
import { forEachTile } from "../../torch/repeat.js";
import { free, scope } from "../../torch/scope.js";
import {
  add,
  add_,
  amax,
  baddbmm,
  bmm,
  cast,
  contiguous,
  copy_,
  div,
  exp_,
  expand,
  log,
  maximum,
  mul,
  mul_,
  mulScalar_,
  narrow,
  neg,
  reshape,
  sub,
  sub_,
  sumDim,
  transpose,
  tril,
  triu,
  unsqueeze,
} from "../../torch/ops.js";
import { device, dtype, type DType, empty, full, shape, type Tensor, zeros } from "../../torch/tensor.js";
import { limitsOn, type Tile, tilesOf } from "./tiles.js";

/**
 * Keys [key, key + keys) of a tile, and the mask that is added to their scores; null where every query sees every key.
 */
interface Chunk {
  key: number;
  keys: number;
  mask_RS: Tensor | null;
}

/** Sums over the chunks so far: of exp(S - max) v and of exp(S - max). */
interface Running {
  out_KRC: Tensor;
  max_KR1: Tensor;
  sum_KR1: Tensor;
}

/**
 * `attend` from q_THC, k_UKC and v_UKC to [T, H, C]; C of values and results may differ from that of queries and keys.
 */
export function tiledAttention(
  q_THC: Tensor,
  k_UKC: Tensor,
  v_UKC: Tensor,
  segments: number[],
  window: number | null,
  sinks_H: Tensor | null = null,
  limits = limitsOn(device(q_THC)),
): Tensor {
  const [tokens, heads, width] = shape(q_THC);
  const [allKeys, groups] = shape(k_UKC);
  const shared = heads / groups;
  const type = dtype(q_THC);
  const wide: DType = type === "float64" ? "float64" : "float32";
  const tiles = tilesOf(segments, { cached: allKeys - tokens, window, groups, shared }, limits);
  const queriesOf = (t_THN: Tensor, { row, rows, group, groups }: Tile): Tensor =>
    transpose(narrow(narrow(t_THN, 0, row, rows), 1, group * shared, groups * shared), 0, 1);
  // The query heads that share a key head are stacked as rows of one product, so keys are never repeated.
  const stackedOf = (t_THN: Tensor, tile: Tile): Tensor =>
    reshape(contiguous(queriesOf(t_THN, tile)), [tile.groups, shared * tile.rows, shape(t_THN)[2]]);
  const write = (t_THN: Tensor, tile: Tile, values_KRN: Tensor): Tensor =>
    copy_(queriesOf(t_THN, tile), reshape(values_KRN, [tile.groups * shared, tile.rows, -1]));
  const keysOf = (t_UKC: Tensor, { group, groups }: Tile, { key, keys }: Chunk): Tensor =>
    transpose(narrow(narrow(t_UKC, 0, key, keys), 1, group, groups), 0, 1);
  // Masks are needed in the first chunk, for the window, and in the last two, where the tile ends; all others need
  // none.
  const forChunks = (tile: Tile, work: (chunk: Chunk) => void): void =>
    forEachTile(tile.keys, limits.keys, (start, keys) => {
      // Row i of the tile is at column `past` + i of the chunk.
      const past = tile.keys - start - tile.rows;
      const mask_NS = maskOf(tile.rows, keys, past, window, q_THC);
      const mask_RS = mask_NS && reshape(expand(unsqueeze(mask_NS, 0), [shared, tile.rows, keys]), [1, -1, keys]);
      work({ key: tile.key + start, keys, mask_RS });
    });
  const scoresOf = (q_KRC: Tensor, k_KSC: Tensor, mask_RS: Tensor | null): Tensor => {
    const to_KRS = mask_RS ?? full([1, 1, 1], 0, type, device(q_KRC));
    return cast(baddbmm(to_KRS, q_KRC, transpose(k_KSC, 1, 2), 1, width ** -0.5), wide);
  };
  const sinks_1H1 = sinks_H && scope(() => ownInput(reshape(cast(sinks_H, wide), [1, heads, 1])));
  /** The running sums before the first chunk: those of the sinks, or null. */
  const start = (tile: Tile): Running | null => {
    if (sinks_1H1 === null) return null;
    const max_KR1 = stackedOf(expand(sinks_1H1, [tile.row + tile.rows, heads, 1]), tile);
    const [groups, rows] = shape(max_KR1);
    const [out_KRC, sum_KR1] = [0, 1].map((value) =>
      full([groups, rows, value === 0 ? shape(v_UKC)[2] : 1], value, wide, device(q_THC)),
    );
    return { out_KRC, max_KR1, sum_KR1 };
  };

  const forward = (): { output: Tensor; saved: Tensor[] } => {
    const out_THC = empty([tokens, heads, shape(v_UKC)[2]], type, device(q_THC));
    const logSum_TH1 = empty([tokens, heads, 1], wide, device(q_THC));
    for (const tile of tiles) {
      scope(() => {
        const q_KRC = stackedOf(q_THC, tile);
        let running = start(tile);
        forChunks(tile, (chunk) => {
          const before: Running | null = running;
          running = scope((): Running => {
            const scores_KRS = scoresOf(q_KRC, keysOf(k_UKC, tile, chunk), chunk.mask_RS);
            const own_KR1 = amax(scores_KRS, [-1], true);
            const max_KR1 = before === null ? own_KR1 : maximum(before.max_KR1, own_KR1);
            const weights_KRS = exp_(sub_(scores_KRS, max_KR1));
            const sum_KR1 = sumDim(weights_KRS, [-1], true);
            const out_KRC = cast(bmm(cast(weights_KRS, type), keysOf(v_UKC, tile, chunk)), wide);
            if (before !== null) {
              const shrink_KR1 = exp_(sub(before.max_KR1, max_KR1));
              add_(sum_KR1, mul_(before.sum_KR1, shrink_KR1));
              add_(out_KRC, mul_(before.out_KRC, shrink_KR1));
            }
            return { out_KRC, max_KR1, sum_KR1 };
          });
        });
        const { out_KRC, max_KR1, sum_KR1 } = running as Running;
        write(out_THC, tile, div(out_KRC, sum_KR1));
        write(logSum_TH1, tile, add(log(sum_KR1), max_KR1));
      });
    }
    return { output: out_THC, saved: [logSum_TH1] };
  };
  const gradient = (dOut_THC: Tensor, out_THC: Tensor, [logSum_TH1]: Tensor[]): Tensor[] => {
    const minusInner_TH1 = empty([tokens, heads, 1], wide, device(q_THC));
    for (const tile of tiles) {
      scope(() => {
        const product = mul(cast(queriesOf(dOut_THC, tile), wide), cast(queriesOf(out_THC, tile), wide));
        copy_(queriesOf(minusInner_TH1, tile), neg(sumDim(product, [-1], true)));
      });
    }
    free(out_THC);
    const dq_THC = empty(shape(q_THC), type, device(q_THC));
    const [dk_UKC, dv_UKC] = [k_UKC, v_UKC].map((t) => zeros(shape(t), wide, device(t)));
    for (const tile of tiles) {
      scope(() => {
        const q_KRC = stackedOf(q_THC, tile);
        const dOut_KRC = stackedOf(dOut_THC, tile);
        const logSum_KR1 = stackedOf(logSum_TH1, tile);
        const minusInner_KR1 = stackedOf(minusInner_TH1, tile);
        const dq_KRC = zeros(shape(q_KRC), wide, device(q_KRC));
        forChunks(tile, (chunk) =>
          scope(() => {
            const [k_KSC, v_KSC] = [keysOf(k_UKC, tile, chunk), keysOf(v_UKC, tile, chunk)];
            const weights_KRS = exp_(sub_(scoresOf(q_KRC, k_KSC, chunk.mask_RS), logSum_KR1));
            add_(keysOf(dv_UKC, tile, chunk), bmm(transpose(cast(weights_KRS, type), 1, 2), dOut_KRC));
            const dWeights_KRS = cast(bmm(dOut_KRC, transpose(v_KSC, 1, 2)), wide);
            const dScores_KRS = cast(mul_(add_(dWeights_KRS, minusInner_KR1), weights_KRS), type);
            add_(dq_KRC, bmm(dScores_KRS, k_KSC));
            add_(keysOf(dk_UKC, tile, chunk), bmm(transpose(dScores_KRS, 1, 2), q_KRC));
          }),
        );
        write(dq_THC, tile, mulScalar_(dq_KRC, width ** -0.5));
      });
    }
    const gradients = [dq_THC, cast(mulScalar_(dk_UKC, width ** -0.5), type), cast(dv_UKC, type)];
    if (sinks_1H1 === null) return gradients;
    const weights_TH1 = exp_(sub(sinks_1H1, logSum_TH1));
    return [...gradients, sumDim(mul_(weights_TH1, minusInner_TH1), [0], true)];
  };
  return customFunction([q_THC, k_UKC, v_UKC, ...(sinks_1H1 === null ? [] : [sinks_1H1])], forward, gradient);
}

// The mask: 0 where a query sees a key, -inf where it does not; null where all see all.
function maskOf(rows: number, columns: number, past: number, window: number | null, like: Tensor): Tensor | null {
  const ahead = past + 1 < columns;
  const behind = window !== null && past + rows > window;
  if (!ahead && !behind) return null;
  const closed_NS = full([rows, columns], Number.NEGATIVE_INFINITY, dtype(like), device(like));
  const ahead_NS = ahead ? triu(closed_NS, past + 1) : null;
  if (!behind) return ahead_NS;
  const behind_NS = tril(closed_NS, past - (window as number));
  return ahead_NS === null ? behind_NS : add(ahead_NS, behind_NS);
}
