// The settings of `train` for failed steps: values that are not finite, and losses far above their course.
// docs/stability.md says what they promise, and how.
import type { SettingRows } from "../../settings/table.js";

const GROUP = "Stability";

export const STABILITY_ROWS = {
  on_nonfinite: {
    kind: "choice",
    choices: ["stop", "skip", "rollback"],
    default: "stop",
    group: GROUP,
    about:
      "a loss, gradient or weight that is not finite. stop: save the state before that step where it is still there, and end; skip: make the " +
      "step with the next batch, and stop where a part of the update was made; rollback: then go back to the last checkpoint, and leave that batch out",
  },
  nonfinite_limit: {
    kind: "integer",
    default: 5,
    min: 1,
    group: GROUP,
    about: "how often a run may skip or go back before it stops after all",
  },
  spike_threshold: {
    kind: "number",
    default: 6,
    min: 0,
    group: GROUP,
    about:
      "warn of a loss this many spreads above the median of the last steps, and keep its batch in a file; spread: 1.48 times the " +
      "median distance from the median, at least 2 % of it; 0: off",
  },
  spike_window: {
    kind: "integer",
    default: 50,
    min: 10,
    group: GROUP,
    about: "steps that the course of the loss is taken from",
  },
} as const satisfies SettingRows;
