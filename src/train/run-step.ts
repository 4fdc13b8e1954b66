// One step of a run as its settings have it: the phase's parameters, teacher and learning rate, gamma at this step, the next
// batches, and the parameter store's end of the step. The loop and the benchmarks that keep their own books call it.
import type { Batch } from "../data/batches.js";
import { gammaAt } from "../optim/schedule.js";
import { during } from "../torch/span.js";
import { couplingOf, describeNetwork } from "../network/description.js";
import { type Phase, trainsOf } from "./phases.js";
import type { Run } from "./prepare.js";
import { stepOptions } from "./step-options.js";
import { type StepResult, trainStep } from "../step/step.js";

/** Before a phase's first step: trains what the phase trains, with optimizer states of zero (in the first phase they are that already). */
export function enterPhase(run: Run, phase: Phase): void {
  const { network, states, settings } = run;
  if (phase.firstStep > 1) {
    network.trains = trainsOf(phase, settings, network.model);
    states.restart(network.trains);
  }
  if (phase.name === "full") {
    run.teacher?.close();
    run.teacher = null;
  }
}

export interface Stepped {
  result: StepResult;
  batches: Batch[];
  learningRate: number;
}

/** The network as it is trained in `step`. */
export function setGamma(run: Run, step: number): void {
  if (run.settings.gamma_final === 0) return;
  run.description = describeNetwork(run.settings, gammaOf(run, step));
  run.network.coupling = couplingOf(run.description, run.settings);
}

/** `check` looks at what the updates have made, and throws, before the step counts as done. */
export function runStep(run: Run, phase: Phase, step: number, check: () => void = () => {}): Stepped {
  const { settings, network, data } = run;
  setGamma(run, step);
  const batches = Array.from({ length: settings.gradient_accumulation_steps }, () => data.next());
  const teacher = phase.name === "distillation" ? (run.teacher ?? undefined) : undefined;
  const options = { ...stepOptions(settings, phase, step), teacher };
  const result = during("streams", () => trainStep(network, run.states, batches, options));
  check();
  network.store.finishStep({ step, batches: data.state(), settings, data: run.fingerprint });
  return { result, batches, learningRate: options.learningRate };
}

function gammaOf({ settings, totalSteps }: Run, step: number): number {
  return gammaAt(step, {
    gamma: settings.gamma,
    final: settings.gamma_final,
    share: settings.gamma_final_ratio,
    totalSteps,
  });
}
