// What of a run depends on the step it is at: which parameters are trained, gamma, and whether a teacher is there. It changes in
// `moveTo` and nowhere else; whoever needs it reads it there and keeps none of it for a later step. Owns the teacher; the model, its
// store and the optimizer's states are the run's.
import type { ModelSource } from "../checkpoint/source.js";
import { gammaAt } from "../optim/schedule.js";
import { couplingOf, describeNetwork, type NetworkDescription } from "../network/description.js";
import type { Network } from "../network/network.js";
import type { Collectives } from "../parallel/collectives.js";
import type { OptimizerStates } from "../step/optimizer-states.js";
import type { Teacher } from "../step/teacher.js";
import { type Phase, phaseAt, trainsOf } from "./phases.js";
import { teacherOf } from "./prepare-network.js";
import type { TrainSettings } from "./settings/settings.js";

/** What stays the same from the first step to the last. */
export interface Course {
  readonly settings: Readonly<TrainSettings>;
  readonly source: ModelSource;
  readonly totalSteps: number;
  readonly phases: readonly Phase[];
  readonly states: OptimizerStates;
  /** Those that train together; one process by itself in most runs. */
  readonly ranks: Collectives;
}

export class RunState {
  readonly #course: Course;
  #phase: Phase;
  #network: Network;
  #description: NetworkDescription;
  #teacher: Teacher | null = null;

  /** After `step`, with states of what its phase trains, as `network` says. Errors: UserError where there is nothing to distil from. */
  constructor(course: Course, network: Network, step: number) {
    this.#course = course;
    this.#phase = phaseAt(course.phases, step);
    this.#network = network;
    this.#description = describeNetwork(course.settings);
    this.moveTo(step);
    const { adapter_steps, distill_steps } = course.settings;
    // Before the steps that need it, so that what is wrong with it is said before the first.
    if (step < adapter_steps + distill_steps) this.#teacher = this.#openTeacher();
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** As it is trained in this step. */
  get network(): Network {
    return this.#network;
  }

  /** The same as a folder says it. */
  get description(): NetworkDescription {
    return this.#description;
  }

  /** The original network, in the steps that distil it. */
  get teacher(): Teacher | undefined {
    if (this.#phase.name !== "distillation") return undefined;
    this.#teacher ??= this.#openTeacher();
    return this.#teacher ?? undefined;
  }

  /** The run as it is in `step`, ahead or back. In another phase than before, optimizer states are zero, of what that phase trains. */
  moveTo(step: number): void {
    const { settings, phases, states, totalSteps } = this.#course;
    const phase = phaseAt(phases, step);
    if (phase !== this.#phase) {
      this.#phase = phase;
      this.#network = { ...this.#network, trains: trainsOf(phase, settings, this.#network.model) };
      states.restart(this.#network.trains);
      if (phase.name === "full") this.close();
    }
    const { gamma, gamma_final: final, gamma_final_ratio: share } = settings;
    if (final === 0) return;
    this.#description = describeNetwork(settings, gammaAt(step, { gamma, final, share, totalSteps }));
    this.#network = { ...this.#network, coupling: couplingOf(this.#description, settings) };
  }

  close(): void {
    this.#teacher?.close();
    this.#teacher = null;
  }

  #openTeacher(): Teacher | null {
    const { settings, source } = this.#course;
    return teacherOf(settings, source, this.#network, this.#description);
  }
}
