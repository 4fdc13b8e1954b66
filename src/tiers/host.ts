// Parameters and optimizer state in host memory, pinned, while a GPU computes: a block is copied to the device when it is
// opened, updated there and copied back. Blocks and updates see by the tensors' own devices that they must copy; this tier
// only says where tensors lie. It has not run on a GPU yet; copies and computing do not overlap.
import { fill_ } from "../torch/ops.js";
import { keep } from "../torch/scope.js";
import { type DType, empty, emptyPinned, type Tensor } from "../torch/tensor.js";
import type { Tier } from "./tier.js";

/** `pin` is for machines with CUDA, where copies from pinned memory are faster. */
export function hostTier(pin: boolean): Tier {
  const make = (shape: readonly number[], dtype: DType): Tensor => keep((pin ? emptyPinned : empty)([...shape], dtype));
  const nothing = (): void => {};
  return {
    name: "host",
    home: (planned) => {
      const types = new Map(planned.map(({ placed: { prefix, spec }, dtype }) => [prefix + spec.name, dtype]));
      return ({ prefix, spec }) => make(spec.shape, types.get(prefix + spec.name) as DType);
    },
    stateRoom: (planned) => {
      const layouts = new Map(planned.map(({ placed, layout }) => [placed.prefix + placed.spec.name, layout]));
      return ({ prefix, spec }) =>
        Object.fromEntries(
          Object.entries(layouts.get(prefix + spec.name) ?? {}).map(([kind, { shape, dtype }]) => [kind, fill_(make(shape, dtype), 0)]),
        );
    },
    begin: nothing,
    enter: nothing,
    beginUpdate: nothing,
    endUpdate: nothing,
    finishStep: nothing,
    takeTimes: () => ({ waitMs: 0, updateMs: 0, logMs: 0, syncMs: 0 }),
    close: nothing,
  };
}
