// Back to an earlier place of the course of a run, in the same process and the same memory: weights, optimizer state, data and
// phase as a checkpoint has them, or as they were before the first step.
import { readSavedRun, type WrittenProgress } from "../../checkpoint/run/state.js";
import { freeModel, type Allocate } from "../../model/model.js";
import { detach } from "../../torch/autograd.js";
import { fill_ } from "../../torch/ops.js";
import { keep } from "../../torch/scope.js";
import type { Run } from "../prepare.js";
import { makeModel } from "../prepare-network.js";

/** Where a run can go back to: the end of a step, in a checkpoint; without one, before the first step. */
export interface Place {
  step: number;
  folder: string | null;
}

export function goBack(run: Run, place: Place): void {
  run.state.network.store.replace(() => replaceAll(run, place));
}

function replaceAll(
  { settings, source, state, states, data, bestModel }: Run,
  { step, folder }: Place,
): WrittenProgress {
  const { model, store } = state.network;
  // What is read goes where the weights are: for a moment each has a second name.
  const allocate: Allocate = () => (placed) =>
    keep(detach((placed.layer < 0 ? model.outer : model.blocks[placed.layer])[placed.spec.name]));
  freeModel(makeModel(settings, source, folder === null ? undefined : { folder, inPlace: false }, store, allocate));
  state.moveTo(step);
  if (folder === null) {
    for (const { tensor } of states.tensors()) fill_(tensor, 0);
    data.restore({ epoch: 0, position: 0 });
    bestModel.restore(null);
  } else {
    const saved = readSavedRun(folder);
    saved.restore(states.tensors());
    data.restore(saved.batches);
    bestModel.restore(saved.best);
  }
  return { step, batches: data.state(), settings, best: bestModel.best };
}
