// What a run does when a step meets values that are not finite. As `on_nonfinite` says, it ends, makes the step with
// other batches, or goes back; it never goes on from half an update. Owns only its own record; the caller owns the run.
import { existsSync } from "node:fs";

import { BadValuesError, UserError } from "../../errors.js";
import type { Sink } from "../../metrics/record.js";
import { onFirst } from "../../parallel/collectives.js";
import type { BatchState } from "../../data/batches.js";
import { batchesFrom, type PlacedBatch, recordBatches } from "./batch-record.js";
import { type Damage, describeDamage, findDamage } from "./damage.js";
import { goBack, type Place } from "./go-back.js";
import { addLeftOut, forgetLeftOut } from "./left-out.js";
import { learningRateIn, type Phase } from "../phases.js";
import type { Run } from "../prepare.js";
import { runStep, type Stepped } from "../run-step.js";
import { onFirstSaving } from "../folder/shared-saves.js";
import { saveCheckpoint } from "../folder/snapshot.js";
import { LossCourse } from "./spikes.js";

/** After this many, a spike is reported without a file. */
const MOST_SPIKE_RECORDS = 20;

export class Recovery {
  readonly #run: Run;
  readonly #sink: Sink;
  /** Places to go back to, the newest last. */
  readonly #places: Place[] = [];
  readonly #course: LossCourse;
  #recoveries = 0;
  #spikes = 0;
  /**
   * Up to this step, weights are checked after every update: some update before it spoilt what a step could not compute
   * with.
   */
  #suspectUntil = 0;
  /** The last step after which all weights and states were found to be finite; -1: none. */
  #soundAfter = -1;

  /** Errors: UserError when the run would go on from damaged weights or state. */
  constructor(run: Run, sink: Sink) {
    const { settings, startStep, resumedFrom } = run;
    this.#run = run;
    this.#sink = sink;
    this.#course = new LossCourse(settings.spike_window, settings.spike_threshold);
    if (!resumedFrom?.inPlace) this.#places.push({ step: startStep, folder: resumedFrom?.folder ?? null });
    if (!resumedFrom) onFirst(run.ranks, () => forgetLeftOut(settings.output_dir));
    const damage = resumedFrom ? findDamage(run) : null;
    if (resumedFrom && damage === null) this.#soundAfter = startStep;
    if (damage === null) return;
    throw new UserError(
      `${resumedFrom?.folder}: ${describeDamage(damage)} ${damage.weight && damage.state ? "hold" : "holds"} values that are not finite ` +
        "(expected numbers): it is damaged. Resume from an older checkpoint.",
    );
  }

  /** To be called when a checkpoint was saved. */
  saved(step: number, folder: string): void {
    this.#places.push({ step, folder });
  }

  /**
   * Makes `step`. If that fails, returns the number of the step at whose end the run is now; the loop makes the next
   * one. `lasts`: the step's result is about to be saved. Errors: UserError when the run ends here.
   */
  attempt(step: number, phase: Phase, lasts: boolean): Stepped | number {
    const run = this.#run;
    const at = run.data.state();
    const { updates } = run.states;
    const watched = lasts || step <= this.#suspectUntil;
    if (step === phase.firstStep) this.#course.restart();
    try {
      const stepped = runStep(run, step, () => (watched ? checkUpdate(run) : undefined));
      if (watched) this.#soundAfter = step;
      this.#lookForSpike(step, stepped, at);
      return stepped;
    } catch (failure) {
      if (!(failure instanceof BadValuesError)) throw failure;
      return this.#recover(failure, { step, phase, at, changed: run.states.updates !== updates });
    }
  }

  #recover(
    failure: BadValuesError,
    { step, phase, at, changed }: { step: number; phase: Phase; at: BatchState; changed: boolean },
  ): number {
    const run = this.#run;
    const { settings, data, state } = run;
    const batches = batchesFrom(run, at);
    const half = changed && !state.network.store.undoStep();
    const damage = findDamage(run);
    const from = step === run.startStep + 1 ? (run.resumedFrom?.folder ?? settings.model) : null;
    const fact = `step ${step}: ${failure.what} ${reasonOf(failure, damage, { half, from })}`;
    const facts = {
      kind: "nonfinite",
      step,
      message: fact,
      learningRate: learningRateIn(phase, step, settings),
      loss: null,
    } as const;
    const record = recordBatches(run, facts, batches, ++this.#recoveries);
    const said = `${fact} Its batch: ${record}.`;
    const whole = !half && damage === null;
    data.restore(at);
    const policy = this.#recoveries > settings.nonfinite_limit ? "stop" : settings.on_nonfinite;
    if (policy === "stop" || (policy === "skip" && !whole))
      throw new UserError(`${said} ${this.#stop(step, whole, damage !== null && from !== null)}`);
    // If damage was, or may have been, there before the step, its batches are not to blame. Then earlier steps are made
    // again, and each one is checked.
    if (damage === null || (half && this.#soundAfter === step - 1)) this.#leaveOut(batches);
    if (whole) {
      this.#say(step, `${said} Nothing was changed; the step is made with the next batch.`);
      return step - 1;
    }
    return this.#goBack(step, said);
  }

  /** Saves what is good; returns words on what to go on from. */
  #stop(step: number, whole: boolean, wasDamaged: boolean): string {
    const run = this.#run;
    const newest = this.#newest();
    const limit =
      this.#recoveries > run.settings.nonfinite_limit
        ? `That happened ${this.#recoveries} times (nonfinite_limit). `
        : "";
    if (whole && step - 1 > (newest?.step ?? 0) && step - 1 > run.startStep) {
      run.state.moveTo(step - 1);
      // Older checkpoints are kept, as nobody knows when the trouble began.
      const kept = { ...run, settings: { ...run.settings, save_total_limit: 0 } };
      const folder = onFirstSaving(run, () => saveCheckpoint(kept, step - 1));
      return `${limit}The end of step ${step - 1} is saved: go on with resume: ${folder}, and a lower learning_rate or on_nonfinite: skip.`;
    }
    const kept = newest?.folder
      ? `The last checkpoint is ${newest.folder}.`
      : "There is no checkpoint: nothing was saved.";
    if (wasDamaged) return kept;
    return `${limit}${kept} Lower learning_rate, or let on_nonfinite: rollback leave the batch out.`;
  }

  #leaveOut(batches: PlacedBatch[]): void {
    const { data, settings, ranks } = this.#run;
    const places = batches.map(({ at }) => at);
    for (const at of places) data.leaveOut(at);
    onFirst(ranks, () => addLeftOut(settings.output_dir, places));
  }

  /** Goes back to the newest place that is not damaged itself. */
  #goBack(step: number, said: string): number {
    const run = this.#run;
    this.#suspectUntil = Math.max(this.#suspectUntil, step);
    for (let place = this.#newest(); place !== undefined; place = this.#newest()) {
      goBack(run, place);
      if (findDamage(run) === null) {
        this.#soundAfter = place.step;
        this.#say(
          step,
          `${said} Back to ${place.folder ?? "the beginning"}; steps from ${place.step + 1} on are made again.`,
        );
        this.#course.restart();
        return place.step;
      }
      this.#places.pop();
    }
    throw new UserError(`${said} There is no whole checkpoint to go back to. Resume from an older one, or start anew.`);
  }

  /** The newest place whose folder still exists. */
  #newest(): Place | undefined {
    while (this.#places.length > 0) {
      const { folder } = this.#places[this.#places.length - 1];
      if (folder === null || existsSync(folder)) break;
      this.#places.pop();
    }
    return this.#places.at(-1);
  }

  #lookForSpike(step: number, { result: { loss }, learningRate }: Stepped, at: BatchState): void {
    const course = this.#course.note(loss);
    if (course === null) return;
    const message =
      `the loss ${loss.toFixed(4)} is far above its course (median ${course.median.toFixed(4)}, spread ${course.spread.toFixed(4)} ` +
      `of the last ${this.#run.settings.spike_window} steps at most)`;
    const isKept = ++this.#spikes <= MOST_SPIKE_RECORDS;
    const facts = { kind: "spike", step, message, learningRate, loss } as const;
    this.#say(
      step,
      `step ${step}: ${message}${isKept ? `. Its batch: ${recordBatches(this.#run, facts, batchesFrom(this.#run, at))}` : ""}`,
    );
  }

  #say(step: number, message: string): void {
    this.#sink.write({ kind: "message", step, message, level: "warning" });
  }
}

function checkUpdate(run: Run): void {
  const damage = findDamage(run);
  if (damage !== null)
    throw new BadValuesError(`the update left values that are not finite in ${describeDamage(damage)}.`, "");
}

/** Why a step failed, in words. `from`: what the run began with, if this is its first step. */
function reasonOf(
  { advice }: BadValuesError,
  damage: Damage | null,
  { half, from }: { half: boolean; from: string | null },
): string {
  if (advice === "") return "The learning rate may be too high, or the optimizer state was damaged.";
  if (half) return "Other parameters were updated before that was known.";
  if (damage === null) {
    const doubt = "Weights and optimizer state are finite: the batch, or a learning rate that is too high, made it so.";
    return advice.includes("stream_fraction_bits") ? advice : doubt;
  }
  const found = `${describeDamage(damage)} ${damage.weight && damage.state ? "were" : "was"} not finite before`;
  const sentence =
    from === null
      ? `${found} this step: damaged, or spoilt by an earlier update.`
      : `${found} the first step: ${from} is damaged.`;
  return `${sentence[0].toUpperCase()}${sentence.slice(1)}`;
}
