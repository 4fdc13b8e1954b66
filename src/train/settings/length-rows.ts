// The settings of `train` that say how long a run is and how large its steps are.
import { MOST_ROWS } from "../../settings/limits.js";
import type { SettingRows } from "../../settings/table.js";

const GROUP = "Length and batches";

export const LENGTH_ROWS = {
  num_train_epochs: {
    kind: "number",
    default: 1,
    above: 0,
    max: 1e6,
    group: GROUP,
    about: "passes over the training rows; may be a fraction",
  },
  shuffle: {
    kind: "boolean",
    default: true,
    group: GROUP,
    about: "a new order of the rows in each epoch; false: their own order in every one",
  },
  max_steps: { kind: "integer", default: 0, min: 0, group: GROUP, about: "optimizer steps; 0: by num_train_epochs" },
  per_device_train_batch_size: {
    kind: "integer",
    default: 4,
    min: 1,
    max: MOST_ROWS,
    group: GROUP,
    about: "rows of a micro-batch",
  },
  gradient_accumulation_steps: {
    kind: "integer",
    default: 1,
    min: 1,
    max: MOST_ROWS,
    group: GROUP,
    about: "micro-batches of an optimizer step",
  },
  per_device_eval_batch_size: {
    kind: "integer",
    default: 4,
    min: 1,
    max: MOST_ROWS,
    group: GROUP,
    about: "rows of a micro-batch in evaluation",
  },
} as const satisfies SettingRows;
