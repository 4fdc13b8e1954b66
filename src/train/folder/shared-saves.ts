// Saves of a run whose ranks share weights and state. The first rank writes, and reads what it lacks from the others:
// one parameter at a time, or one expert where experts are written one by one. So no rank ever holds the whole. Owns
// nothing.
import type { NamedTensor } from "../../checkpoint/run/state.js";
import type { SaveOptions } from "../../checkpoint/save.js";
import { parameterOf, placedParameters } from "../../model/model.js";
import { elementsOf } from "../../optim/optimizer.js";
import { onFirst, onFirstLater } from "../../parallel/collectives.js";
import { nameOf } from "../../store/store.js";
import { narrow, view } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { type Rows, dtype, empty, type Tensor } from "../../torch/tensor.js";
import type { Run } from "../prepare.js";

/** `onFirst` for work that saves: meanwhile the other ranks serve what the first one reads. */
export function onFirstSaving<T>({ ranks, shared }: Run, work: () => T): T {
  if (shared === null) return onFirst(ranks, work);
  if (ranks.rank > 0) shared.serve();
  return onFirst(ranks, () => shared.reading(work));
}

export async function onFirstSavingLater<T>({ ranks, shared }: Run, work: () => Promise<T>): Promise<T> {
  if (shared === null) return onFirstLater(ranks, work);
  if (ranks.rank > 0) shared.serve();
  return onFirstLater(ranks, () => shared.readingLater(work));
}

/** How a save reads weights and state from other ranks; empty where this process has everything. */
export function readersOf(run: Run): {
  readRows?: SaveOptions["readRows"];
  readWhole?: (named: NamedTensor) => Tensor;
} {
  const { ranks, shared, state } = run;
  const { model, store } = state.network;
  const { sharing } = store;
  if (sharing === null || shared === null) return {};
  const placedAll = new Map(placedParameters(model.architecture).map((placed) => [nameOf(placed), placed]));
  /** Rows `wanted` of tensor `name`, whose whole size is `size`, and which is shared like the parameter `of`. */
  const read = (name: string, of: string, like: Tensor, size: readonly number[], wanted?: Rows): Tensor => {
    const placed = placedAll.get(of);
    if (placed === undefined) throw new Error(`no parameter ${of}`);
    const [all] = placed.spec.shape;
    const each = elementsOf(size) / all;
    const { first, count } = wanted ?? { first: 0, count: all };
    const made = empty([each * count], dtype(like));
    for (let from = 0; from < ranks.world; from++) {
      const rows = sharing.rows(placed, from);
      const start = Math.max(first, rows.first);
      const end = Math.min(first + count, rows.first + rows.count);
      if (end <= start) continue;
      scope(() =>
        shared.read(
          { name, from, first: each * (start - rows.first), count: each * (end - start) },
          narrow(made, 0, each * (start - first), each * (end - start)),
        ),
      );
    }
    return view(made, wanted ? [count, ...size.slice(1)] : [...size]);
  };
  return {
    readRows: (placed, rows) =>
      scope(() => read(nameOf(placed), nameOf(placed), parameterOf(model, placed), placed.spec.shape, rows)),
    readWhole: ({ name, of, tensor, part }) =>
      part && of !== undefined ? scope(() => read(name, of, tensor, part.shape)) : tensor,
  };
}
