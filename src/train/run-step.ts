// One step of a run as its settings say: moves the run's state to the step, takes the next batches, and ends the step
// in the parameter store. The loop calls it, and benchmarks that record figures of their own.
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

/** Makes a step. `check` looks at the updated weights, and may throw, before the step counts as done. */
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
