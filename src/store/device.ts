// The plain store: weights and optimizer state stay in the memory of the device that computes; they are read and
// changed there. Only trained parameters have state. Owns nothing: the tensors belong to the model and the optimizer.
import { inMemory } from "../model/model.js";
import { free, keep } from "../torch/scope.js";
import { zeros } from "../torch/tensor.js";
import {
  type ParameterStore,
  type PlannedState,
  type StateStore,
  type StoreKind,
  lookUpStored,
  nameOf,
} from "./store.js";
import { NO_TIME } from "./times.js";

export const deviceStore = (device: string): ParameterStore => ({
  held: null,
  copiedBytes: 0,
  hostBytes: 0,
  allocate: inMemory(device),
  allocateState: (planned) => statesOn(device, planned),
  sharing: null,
  openModel: () => null,
  begin: () => {},
  pass: (_parts, work) => work(),
  lookUp: lookUpStored,
  load: (_part, open) => open((stored) => stored),
  backward: (_updates, pass) => pass(),
  update: (_part, work) => work((stored, change) => change(stored)),
  finishStep: () => {},
  undoStep: () => false,
  replace: (fill) => void fill(),
  takeTimes: () => NO_TIME,
  close: () => {},
});

export const device: StoreKind = {
  lies: "device",
  shared: false,
  needsGpu: false,
  make: ({ device }) => deviceStore(device),
  makePlanned: ({ device }) => deviceStore(device),
};

/** State in the memory of a device, made when it is opened. */
function statesOn(device: string, planned: PlannedState[]): StateStore {
  const layouts = new Map(planned.map(({ placed, layout }) => [nameOf(placed), layout]));
  return {
    open: (placed) =>
      Object.fromEntries(
        Object.entries(layouts.get(nameOf(placed)) ?? {}).map(([kind, { shape, dtype }]) => [
          kind,
          keep(zeros([...shape], dtype, device)),
        ]),
      ),
    release: (state) => free(...Object.values(state)),
  };
}
