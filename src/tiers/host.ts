// Parameters and optimizer state in host memory, pinned, while a GPU computes: a block is copied to the device when it is
// opened, updated there and copied back. Blocks and updates see by the tensors' own devices that they must copy; this tier
// only says where tensors lie. It has not run on a GPU yet; copies and computing do not overlap.
import { oneByOne } from "../model/model.js";
import { fill_ } from "../torch/ops.js";
import { free, isAlive, keep } from "../torch/scope.js";
import { type DType, empty, emptyPinned, type Tensor } from "../torch/tensor.js";
import type { Tier } from "./tier.js";

/** `pin` is for machines with CUDA, where copies from pinned memory are faster. */
export function hostTier(pin: boolean): Tier {
  const make = pin ? emptyPinned : (shape: number[], dtype: DType): Tensor => empty(shape, dtype);
  const nothing = (): void => {};
  const states = new Map<string, Record<string, Tensor>>();
  return {
    name: "host",
    home: oneByOne(make),
    stateRoom: (planned) => {
      const layouts = new Map(planned.map(({ placed, layout }) => [placed.prefix + placed.spec.name, layout]));
      // Asked for again when a phase begins, and then the same.
      return ({ prefix, spec }) => {
        const name = prefix + spec.name;
        const layout = Object.entries(layouts.get(name) ?? {});
        const state =
          states.get(name) ?? Object.fromEntries(layout.map(([kind, { shape, dtype }]) => [kind, fill_(keep(make([...shape], dtype)), 0)]));
        states.set(name, state);
        return state;
      };
    },
    begin: nothing,
    enter: nothing,
    beginUpdate: nothing,
    endUpdate: nothing,
    finishStep: nothing,
    takeTimes: () => ({ waitMs: 0, updateMs: 0, logMs: 0, syncMs: 0 }),
    // What is no longer trained belongs to no optimizer.
    close: () => free(...[...states.values()].flatMap((state) => Object.values(state)).filter(isAlive)),
  };
}
