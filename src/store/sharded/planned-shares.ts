// The shares of a model that need not exist: from its parameters, their types and the optimizer's state to who holds what.
import { isExpertMatrix } from "../../model/expert-rows.js";
import type { PlacedParameter } from "../../model/model.js";
import { elementsOf, layoutBytes } from "../../optim/optimizer.js";
import { DTYPES, type DType, type Rows } from "../../torch/tensor.js";
import { type HeldBytes, nameOf, type SharedOptions } from "../store.js";
import { loadsOf, type Shared, type Shares, shareOut } from "./shares.js";

interface Planned {
  placed: PlacedParameter;
  dtype: DType;
}

type Options = Omit<SharedOptions, "ranks"> & { ranks: { world: number } };

const weightBytesOf = ({ placed: { spec }, dtype }: Planned): number => elementsOf(spec.shape) * DTYPES[dtype];

export function sharesOf(planned: readonly Planned[], { ranks, stateOf, stateBlock, expertsStay }: Options): Shares {
  const all = planned.map((each) => ({
    placed: each.placed,
    bytes: weightBytesOf(each) + layoutBytes(stateOf(each.placed, each.dtype).layout),
    together: rowsTogether(each.placed, stateOf(each.placed, each.dtype).elementwise, stateBlock),
  }));
  if (!expertsStay?.(planned)) return shareOut(all, ranks.world);
  // All matrices of an expert are one rank's.
  const isMatrix = ({ placed }: Shared): boolean => isExpertMatrix(placed.spec);
  const ofLayer = new Map<number, Shared[]>();
  for (const each of all.filter(isMatrix))
    ofLayer.set(each.placed.layer, [...(ofLayer.get(each.placed.layer) ?? []), each]);
  const layers = [...ofLayer.values()];
  const shares = new Map(shareOut([...all.filter((each) => !isMatrix(each)), ...layers.map(asOne)], ranks.world));
  for (const [first, ...others] of layers)
    for (const { placed } of others) shares.set(nameOf(placed), shares.get(nameOf(first.placed)) as readonly Rows[]);
  return shares;
}

const asOne = (some: readonly Shared[]): Shared => ({
  ...some[0],
  bytes: some.reduce((sum, { bytes }) => sum + bytes, 0),
  together: some.reduce((all, { together }) => (all * together) / greatestDivisor(all, together), 1),
});

/**
 * Experts can be told apart, where no block of state is of two, and words where each is updated by itself. Biases of experts are one vector, and all
 * else is too small to be divided.
 */
function rowsTogether({ layer, spec }: PlacedParameter, elementwise: boolean, stateBlock: number): number {
  const [rows, ...rest] = spec.shape;
  const areWords = layer < 0 && rest.length === 1 && elementwise;
  if (!areWords && !isExpertMatrix(spec)) return rows;
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
