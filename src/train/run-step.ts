// One step of a run as its settings have it: the run's state of this step, the next batches, and the parameter store's end of the
// step. The loop and the benchmarks that keep their own books call it.
import type { Batch } from "../data/batches.js";
import { during } from "../torch/span.js";
import { batchesPerStep } from "./course/run-length.js";
import type { Run } from "./prepare.js";
import { stepOptions } from "./step-options.js";
import { type StepResult, trainStep } from "../step/step.js";

export interface Stepped {
  result: StepResult;
  batches: Batch[];
  learningRate: number;
}

/** `check` looks at what the updates have made, and throws, before the step counts as done. */
export function runStep(run: Run, step: number, check: () => void = () => {}): Stepped {
  const { settings, data, state, states, ranks } = run;
  state.moveTo(step);
  ranks.at(`step ${step}`);
  const { phase, network, teacher } = state;
  const batches = data.nextStep(batchesPerStep(settings, ranks)).map(({ batch }) => batch);
  const options = { ...stepOptions(settings, phase, step), teacher, ranks };
  const result = during("streams", () => trainStep(network, states, batches, options));
  check();
  network.store.finishStep({ step, batches: data.state(), settings, data: run.fingerprint, best: run.bestModel.best });
  return { result, batches, learningRate: options.learningRate };
}
