// Who holds what of a model that ranks share. What an optimizer looks at as one thing stays whole, so that it is updated as in one process: a stack of
// experts is divided between experts, embedding and head between words where the optimizer treats each element by itself, all else is one rank's.
// Bytes of weights and state are evened out over the whole model: what is not divided is dealt out first, the largest first, and the rest fills up
// what each rank has less than the others. Follows from sizes alone, so every rank finds the same.
import type { Rows } from "../../torch/tensor.js";
import type { PlacedParameter } from "../../model/model.js";
import { nameOf } from "../store.js";

export interface Shared {
  placed: PlacedParameter;
  /** Of its weights and state. */
  bytes: number;
  /** Rows of its first dimension that stay together; all of them where it is not divided. */
  together: number;
}

/** Rows by rank, by full name. */
export type Shares = ReadonlyMap<string, readonly Rows[]>;

export function shareOut(all: readonly Shared[], world: number): Shares {
  const shares = new Map<string, Rows[]>();
  const loads = new Array<number>(world).fill(0);
  const isWhole = ({ placed, together }: Shared): boolean => together >= placed.spec.shape[0];
  for (const { placed, bytes } of all.filter(isWhole).sort((a, b) => b.bytes - a.bytes)) {
    const [rows] = placed.spec.shape;
    const to = loads.indexOf(Math.min(...loads));
    loads[to] += bytes;
    shares.set(
      nameOf(placed),
      loads.map((_, rank) => ({ first: rank > to ? rows : 0, count: rank === to ? rows : 0 })),
    );
  }
  const even = all.reduce((sum, { bytes }) => sum + bytes, 0) / world;
  for (const { placed, bytes, together } of all.filter((each) => !isWhole(each))) {
    const [rows] = placed.spec.shape;
    const wanted = loads.map((load) => Math.max(0, even - load));
    const total = wanted.reduce((sum, each) => sum + each, 0);
    let [upTo, first] = [0, 0];
    const own = wanted.map((each, rank): Rows => {
      upTo += each;
      const share = total > 0 ? upTo / total : (rank + 1) / world;
      const end = rank === world - 1 ? rows : together * Math.round((share * rows) / together);
      const count = end - first;
      loads[rank] += (bytes * count) / rows;
      first = end;
      return { first: end - count, count };
    });
    shares.set(nameOf(placed), own);
  }
  return shares;
}

/** What each rank holds of these bytes. */
export const loadsOf = (shares: Shares, sizes: readonly { placed: PlacedParameter; bytes: number }[]): number[] =>
  sizes.reduce<number[]>((loads, { placed, bytes }) => {
    const rows = shares.get(nameOf(placed)) as readonly Rows[];
    return rows.map(({ count }, rank) => (loads[rank] ?? 0) + (bytes * count) / placed.spec.shape[0]);
  }, []);
