// What of a run depends on its step: which parameters are trained, gamma, and the teacher. Only `moveTo` changes it;
// others read it here, and keep none of it for a later step. Owns the teacher; the run owns the model, its store and
// the optimizer's states.
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
  /** The processes that train together; in most runs one process by itself. */
  readonly ranks: Collectives;
}

export class RunState {
  readonly #course: Course;
  #phase: Phase;
  #network: Network;
  #description: NetworkDescription;
  #teacher: Teacher | null = null;

  /**
   * The state after `step`; optimizer states are those of what `network` trains. Errors: UserError if there is nothing
   * to distil from.
   */
  constructor(course: Course, network: Network, step: number) {
    this.#course = course;
    this.#phase = phaseAt(course.phases, step);
    this.#network = network;
    this.#description = describeNetwork(course.settings);
    this.moveTo(step);
    const { adapter_steps, distill_steps } = course.settings;
    // Opened before the steps that need it, so that errors come before the first step.
    if (step < adapter_steps + distill_steps) this.#teacher = this.#openTeacher();
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** The network as this step trains it. */
  get network(): Network {
    return this.#network;
  }

  /** The description of `network`, as a folder holds it. */
  get description(): NetworkDescription {
    return this.#description;
  }

  /** The original network, in the steps that distil it. */
  get teacher(): Teacher | undefined {
    if (this.#phase.name !== "distillation") return undefined;
    this.#teacher ??= this.#openTeacher();
    return this.#teacher ?? undefined;
  }

  /**
   * Moves the run to `step`, ahead or back. If the phase changes, optimizer states begin at zero, for what that phase
   * trains.
   */
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
