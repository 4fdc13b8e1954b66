// The shares of a model that need not exist: from its parameters, their types and the optimizer's state to who holds what.
import type { PlacedParameter } from "../../model/model.js";
import { elementsOf, layoutBytes } from "../../optim/optimizer.js";
import { DTYPES, type DType } from "../../torch/tensor.js";
import type { HeldBytes, SharedOptions } from "../store.js";
import { loadsOf, type Shares, shareOut } from "./shares.js";

interface Planned {
  placed: PlacedParameter;
  dtype: DType;
}

type Options = Omit<SharedOptions, "ranks"> & { ranks: { world: number } };

const weightBytesOf = ({ placed: { spec }, dtype }: Planned): number => elementsOf(spec.shape) * DTYPES[dtype];

export const sharesOf = (planned: readonly Planned[], { ranks, stateOf, stateBlock }: Options): Shares =>
  shareOut(
    planned.map((each) => ({
      placed: each.placed,
      bytes: weightBytesOf(each) + layoutBytes(stateOf(each.placed, each.dtype).layout),
      together: rowsTogether(each.placed, stateOf(each.placed, each.dtype).elementwise, stateBlock),
    })),
    ranks.world,
  );

/**
 * Experts can be told apart, where no block of state is of two, and words where each is updated by itself. Biases of experts are one vector, and all
 * else is too small to be divided.
 */
function rowsTogether({ layer, spec }: PlacedParameter, elementwise: boolean, stateBlock: number): number {
  const [rows, ...rest] = spec.shape;
  const areWords = layer < 0 && rest.length === 1 && elementwise;
  if (!areWords && !(spec.experts && rest.length === 2)) return rows;
  const together = stateBlock / greatestDivisor(elementsOf(rest), stateBlock);
  return rows % together === 0 ? together : rows;
}

const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b));

/** By rank. */
export function heldBytes(planned: readonly Planned[], shares: Shares, options: Pick<Options, "stateOf">): HeldBytes[] {
  const weights = loadsOf(
    shares,
    planned.map((each) => ({ placed: each.placed, bytes: weightBytesOf(each) })),
  );
  const states = loadsOf(
    shares,
    planned.map(({ placed, dtype }) => ({ placed, bytes: layoutBytes(options.stateOf(placed, dtype).layout) })),
  );
  return weights.map((weightBytes, rank) => ({ weightBytes, stateBytes: states[rank] }));
}
