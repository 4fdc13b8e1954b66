// Back to an earlier place of the course of a run, in the same process and the same memory: weights, optimizer state, data and
// phase as a checkpoint has them, or as they were before the first step.
import { readRunState, type WrittenProgress } from "../../checkpoint/run/state.js";
import { freeModel, type Allocate } from "../../model/model.js";
import { detach } from "../../torch/autograd.js";
import { fill_ } from "../../torch/ops.js";
import { keep } from "../../torch/scope.js";
import { phaseAt, trainsOf } from "../phases.js";
import type { Run } from "../prepare.js";
import { makeModel, teacherOf } from "../prepare-network.js";
import { setGamma } from "../run-step.js";

/** Where a run can go back to: the end of a step, in a checkpoint; without one, before the first step. */
export interface Place {
  step: number;
  folder: string | null;
}

export function goBack(run: Run, place: Place): void {
  run.network.store.replace(() => replaceAll(run, place));
}

function replaceAll(run: Run, { step, folder }: Place): WrittenProgress {
  const { settings, source, network, states, data, phases } = run;
  const { model, store } = network;
  // What is read goes where the weights are: for a moment each has a second name.
  const allocate: Allocate = () => (placed) =>
    keep(detach((placed.layer < 0 ? model.outer : model.blocks[placed.layer])[placed.spec.name]));
  freeModel(makeModel(settings, source, folder === null ? undefined : { folder, inPlace: false }, store, allocate));
  network.trains = trainsOf(phaseAt(phases, step), settings, model);
  states.restart(network.trains);
  if (folder === null) {
    for (const { tensor } of states.tensors()) fill_(tensor, 0);
    data.restore({ epoch: 0, position: 0 });
  } else {
    const saved = readRunState(folder);
    saved.restore(states.tensors());
    data.restore(saved.batches);
  }
  setGamma(run, step);
  if (run.teacher === null && step < settings.adapter_steps + settings.distill_steps) {
    run.teacher = teacherOf(settings, source, network, run.description);
  }
  return { step, batches: data.state(), settings };
}
