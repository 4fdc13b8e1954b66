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
      "what to do if a loss, gradient or weight is NaN or infinite; stop: end the run, and save the state before that step if it still exists; skip: make the step with the next batch, but stop if a part of the update was already made; rollback: as skip, but in that case go back to the last checkpoint, and leave the batch out",
  },
  nonfinite_limit: {
    kind: "integer",
    default: 5,
    min: 1,
    group: GROUP,
    about: "how many times a run may skip or go back before it stops",
  },
  spike_threshold: {
    kind: "number",
    default: 6,
    min: 0,
    group: GROUP,
    about:
      "warn if a loss is more than this many spreads above the median of the last steps, and save its batch in a file; a spread is 1.48 times the median distance from the median, at least 2 % of the median; 0: off",
  },
  spike_window: {
    kind: "integer",
    default: 50,
    min: 10,
    group: GROUP,
    about: "how many of the last steps spike_threshold looks at",
  },
} as const satisfies SettingRows;
