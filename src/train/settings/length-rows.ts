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
    about: "number of passes over the training rows; may be a fraction",
  },
  shuffle: {
    kind: "boolean",
    default: true,
    group: GROUP,
    about: "a new order of the rows in each epoch; false: always the same order; without packing, that of train_file",
  },
  max_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: GROUP,
    about: "number of optimizer steps; 0: as num_train_epochs says",
  },
  per_device_train_batch_size: {
    kind: "integer",
    default: 4,
    min: 1,
    max: MOST_ROWS,
    group: GROUP,
    about: "number of rows in a micro-batch",
  },
  gradient_accumulation_steps: {
    kind: "integer",
    default: 1,
    min: 1,
    max: MOST_ROWS,
    group: GROUP,
    about: "number of micro-batches in an optimizer step, for each rank",
  },
  per_device_eval_batch_size: {
    kind: "integer",
    default: 4,
    min: 1,
    max: MOST_ROWS,
    group: GROUP,
    about: "number of rows in a micro-batch in evaluation",
  },
} as const satisfies SettingRows;
