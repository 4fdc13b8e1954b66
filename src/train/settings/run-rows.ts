// The settings of `train` for what happens around the steps: evaluation, checkpoints, metrics, going on, and the seed.
import { REPORT_TO, REPORT_TO_ABOUT } from "../../metrics/sinks/registry.js";
import type { SettingRows } from "../../settings/table.js";

const GROUP = "Evaluation, checkpoints and the run";

export const RUN_ROWS = {
  eval_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: GROUP,
    about: "steps between evaluations; 0: only at start and end",
  },
  save_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: GROUP,
    about: "steps between checkpoints; 0: only at the end",
  },
  save_total_limit: { kind: "integer", default: 0, min: 0, group: GROUP, about: "newest checkpoints to keep; 0: all" },
  disk_full_wait: {
    kind: "integer",
    default: 10,
    min: 0,
    group: GROUP,
    about: "minutes that the result waits for room; 0: none",
  },
  logging_steps: { kind: "integer", default: 1, min: 1, group: GROUP, about: "steps between lines of metrics" },
  report_to: {
    kind: "choice",
    choices: REPORT_TO,
    list: true,
    metavar: "NAME,...",
    default: ["none"],
    group: GROUP,
    about: `where else metrics go, beside the terminal and metrics.jsonl. ${REPORT_TO_ABOUT}`,
  },
  resume: {
    kind: "string",
    default: "",
    metavar: "FOLDER",
    group: GROUP,
    about: 'a checkpoint-N folder to go on from, or "latest"',
  },
  seed: {
    kind: "integer",
    default: 42,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    group: GROUP,
    about: "of the order of rows and of stochastic rounding",
  },
} as const satisfies SettingRows;
