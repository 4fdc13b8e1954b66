// A tile of a layer with a gated delta rule, forward and backward, in kernels.
import { contiguous, deltaFloats, fill_, gatedDelta_, gatedDeltaBackward_, sizesOf } from "../../torch/ops.js";
import { device, empty, shape, type Tensor } from "../../torch/tensor.js";
import type { Place } from "./delta-projections.js";
import type { GatedDelta } from "./delta-settings.js";
import type { TileWork } from "./scan.js";

/** `apart`: keys, values, rates and decays come from matrices of their own, listed after those of queries and gates. */
export function kernelTile(settings: GatedDelta, chunk: number, apart: boolean): TileWork {
  const { keyHeads, keyWidth, valueHeads, valueWidth, kernel, normEpsilon, projections } = settings;
  const sizes = { keyHeads, shared: valueHeads / keyHeads, keyWidth, valueWidth, taps: kernel, chunk };
  const { q_TN, k_TN, v_TN, z_TN, b_TH, a_TH } = projections.places;
  const ofQuery = ({ matrix, first, step }: Place): number[] => [matrix, first, step];
  const ofMemory = ({ matrix, ...place }: Place): number[] =>
    ofQuery({ ...place, matrix: apart ? matrix + projections.matrices.length : matrix });
  const places = [ofQuery(q_TN), ofMemory(k_TN), ofMemory(v_TN), ofQuery(z_TN), ofMemory(b_TH), ofMemory(a_TH)].flat();
  const workFor = (t_TN: Tensor, way: "forward" | "backward"): Tensor =>
    empty([deltaFloats(sizes, shape(t_TN)[0], device(t_TN), way)], "float32", device(t_TN));
  return {
    forward: ({ rows, weights, state }, out_TN) =>
      gatedDelta_(out_TN, rows, weights, state, workFor(out_TN, "forward"), places, sizesOf(sizes), normEpsilon),
    backward: ({ rows, weights, state }, { dOut_TN, dRows, dWeights, dState }) => {
      // Each matrix has columns that are not used, so their gradient must be zero.
      if (apart) for (const t of dRows) fill_(t, 0);
      const work = workFor(dOut_TN, "backward");
      const gradients = [dRows, dWeights, dState, contiguous(dOut_TN)] as const;
      gatedDeltaBackward_(...gradients, rows, weights, state, work, places, sizesOf(sizes), normEpsilon);
    },
  };
}
