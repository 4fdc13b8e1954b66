// Exact attention where the engine has no fused form for it: tiles of queries, each over the keys that they see, so that
// scores never exist for more than a tile. Nothing of them is kept: the way back forms them again, tile by tile.
//   P = softmax(q k^T / sqrt(C) + mask),  o = P v;  dv = P^T do,  dS = P * (do v^T - rowsum(P * do v^T)),
//   dq = dS k / sqrt(C),  dk = dS^T q / sqrt(C)        (FlashAttention, arXiv 2205.14135, appendix B.4)
import { customFunction } from "../torch/graph.js";
import { scope } from "../torch/scope.js";
import {
  add,
  add_,
  baddbmm,
  bmm,
  cast,
  contiguous,
  copy_,
  expand,
  mulScalar_,
  narrow,
  reshape,
  softmax,
  softmaxBackward,
  transpose,
  tril,
  triu,
  unsqueeze,
} from "../torch/ops.js";
import { device, dtype, type DType, empty, full, shape, type Tensor, zeros } from "../torch/tensor.js";

interface Limits {
  /** Scores of one tile. On the way back there are four such tensors. */
  scores: number;
  /** More rows than this do not make products faster, and waste more on keys that are masked. */
  rows: number;
}

// On a processor a tile's scores should stay in its caches; elsewhere products should be large.
const limitsOn = (on: string): Limits => (on === "cpu" ? { scores: 2 ** 20, rows: 256 } : { scores: 2 ** 26, rows: 1024 });

/** Queries [row, row + rows) of key heads [group, group + groups), and the keys [key, key + keys) that they see. */
interface Tile {
  row: number;
  rows: number;
  key: number;
  keys: number;
  group: number;
  groups: number;
}

/** As `attend`, from q_THC, k_UKC and v_UKC to [T, H, C]. */
export function tiledAttention(
  q_THC: Tensor,
  k_UKC: Tensor,
  v_UKC: Tensor,
  segments: number[],
  window: number | null,
  limits = limitsOn(device(q_THC)),
): Tensor {
  const [tokens, heads] = shape(q_THC);
  const [allKeys, groups] = shape(k_UKC);
  const shared = heads / groups;
  const type = dtype(q_THC);
  const wide: DType = type === "float64" ? "float64" : "float32";
  const tiles = [...tilesOf(segments, { cached: allKeys - tokens, window, groups, shared }, limits)];
  const queriesOf = (t_THC: Tensor, { row, rows, group, groups }: Tile): Tensor =>
    transpose(narrow(narrow(t_THC, 0, row, rows), 1, group * shared, groups * shared), 0, 1);
  const keysOf = (t_UKC: Tensor, { key, keys, group, groups }: Tile): Tensor =>
    transpose(narrow(narrow(t_UKC, 0, key, keys), 1, group, groups), 0, 1);

  const forward = (): Tensor => {
    const out_THC = empty(shape(q_THC), type, device(q_THC));
    for (const tile of tiles) {
      scope(() => {
        const out_HNC = attendTile(queriesOf(q_THC, tile), keysOf(k_UKC, tile), keysOf(v_UKC, tile), window);
        copy_(queriesOf(out_THC, tile), out_HNC);
      });
    }
    return out_THC;
  };
  const gradient = (dOut_THC: Tensor): Tensor[] => {
    const dq_THC = empty(shape(q_THC), type, device(q_THC));
    const [dk_UKC, dv_UKC] = [k_UKC, v_UKC].map((t) => zeros(shape(t), wide, device(t)));
    for (const tile of tiles) {
      scope(() => {
        const d = tileGradient(queriesOf(q_THC, tile), keysOf(k_UKC, tile), keysOf(v_UKC, tile), queriesOf(dOut_THC, tile), window);
        copy_(queriesOf(dq_THC, tile), d.dq_HNC);
        add_(keysOf(dk_UKC, tile), d.dk_KSC);
        add_(keysOf(dv_UKC, tile), d.dv_KSC);
      });
    }
    return [dq_THC, cast(dk_UKC, type), cast(dv_UKC, type)];
  };
  return customFunction([q_THC, k_UKC, v_UKC], forward, gradient);
}

function* tilesOf(
  segments: number[],
  { cached, window, groups, shared }: { cached: number; window: number | null; groups: number; shared: number },
  limits: Limits,
): Generator<Tile> {
  let start = 0;
  for (const length of segments) {
    for (let done = 0, rows: number; done < length; done += rows) {
      const first = window === null ? 0 : Math.max(0, cached + done + 1 - window);
      const reach = Math.min(cached + length, cached + done + limits.rows) - first;
      rows = Math.min(length - done, limits.rows, Math.max(1, Math.floor(limits.scores / (shared * reach))));
      const keys = cached + done + rows - first;
      const together = Math.min(groups, Math.max(1, Math.floor(limits.scores / (shared * rows * keys))));
      for (let group = 0; group < groups; group += together) {
        yield { row: start + done, rows, key: start + first, keys, group, groups: Math.min(together, groups - group) };
      }
    }
    start += length;
  }
}

// What scores are added to: 0 where a query sees a key, -inf where it does not. The last row stands at the last column.
function maskOf(rows: number, columns: number, window: number | null, like: Tensor): Tensor {
  const past = columns - rows;
  const closed_NS = full([rows, columns], Number.NEGATIVE_INFINITY, dtype(like), device(like));
  const ahead_NS = triu(closed_NS, past + 1);
  return window === null || window >= columns ? ahead_NS : add(ahead_NS, tril(closed_NS, past - window));
}

// The query heads that share a key head are stacked as rows of one product, so keys are never repeated.
const stacked = (t_HNC: Tensor, groups: number): Tensor => {
  const [heads, rows, width] = shape(t_HNC);
  return reshape(contiguous(t_HNC), [groups, (heads / groups) * rows, width]);
};

function weightsOf(q_HNC: Tensor, k_KSC: Tensor, window: number | null): Tensor {
  const [heads, rows, width] = shape(q_HNC);
  const [groups, columns] = shape(k_KSC);
  return scope(() => {
    const mask_NS = unsqueeze(maskOf(rows, columns, window, q_HNC), 0);
    const mask_RS = reshape(expand(mask_NS, [heads / groups, rows, columns]), [1, -1, columns]);
    const scores_KRS = baddbmm(mask_RS, stacked(q_HNC, groups), transpose(k_KSC, 1, 2), 1, width ** -0.5);
    return softmax(scores_KRS, -1, dtype(q_HNC) === "float64" ? "float64" : "float32");
  });
}

function attendTile(q_HNC: Tensor, k_KSC: Tensor, v_KSC: Tensor, window: number | null): Tensor {
  const weights_KRS = weightsOf(q_HNC, k_KSC, window);
  return reshape(bmm(cast(weights_KRS, dtype(q_HNC)), v_KSC), shape(q_HNC));
}

function tileGradient(
  q_HNC: Tensor,
  k_KSC: Tensor,
  v_KSC: Tensor,
  dOut_HNC: Tensor,
  window: number | null,
): { dq_HNC: Tensor; dk_KSC: Tensor; dv_KSC: Tensor } {
  const type = dtype(q_HNC);
  const groups = shape(k_KSC)[0];
  const scale = shape(q_HNC)[2] ** -0.5;
  const dOut_KRC = stacked(dOut_HNC, groups);
  const weights_KRS = weightsOf(q_HNC, k_KSC, window);
  const dv_KSC = scope(() => bmm(transpose(cast(weights_KRS, type), 1, 2), dOut_KRC));
  const dScores_KRS = scope(() => {
    const dWeights_KRS = cast(bmm(dOut_KRC, transpose(v_KSC, 1, 2)), dtype(weights_KRS));
    return cast(softmaxBackward(dWeights_KRS, weights_KRS, -1, dtype(weights_KRS)), type);
  });
  return {
    dq_HNC: reshape(mulScalar_(bmm(dScores_KRS, k_KSC), scale), shape(q_HNC)),
    dk_KSC: mulScalar_(bmm(transpose(dScores_KRS, 1, 2), stacked(q_HNC, groups)), scale),
    dv_KSC,
  };
}
