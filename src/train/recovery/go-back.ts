// Takes a run back to an earlier place of its course, in the same process and memory: weights, optimizer state, data
// and phase become those of a checkpoint, or those before the first step.
import { readSavedRun, type WrittenProgress } from "../../checkpoint/run/state.js";
import { freeModel, type Allocate } from "../../model/model.js";
import { detach } from "../../torch/autograd.js";
import { fill_ } from "../../torch/ops.js";
import { keep } from "../../torch/scope.js";
import type { Run } from "../prepare.js";
import { makeModel } from "../prepare-network.js";

/** A place a run can go back to: the end of a step, in a checkpoint; with folder null, before the first step. */
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
  // Values are read into the weights in place, so for a moment each weight has a second handle.
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
