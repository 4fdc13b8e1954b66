// The settings that only some optimisers have, and which those are. Data only: what they do is in src/optim.
import type { SettingRows } from "../../settings/table.js";

const group = "Optimizer";

export const OPTIMIZERS = [
  "adamw",
  "adamw8bit",
  "adafactor",
  "adalomo",
  "lomo",
  "sgd",
  "galore_adamw",
  "muon",
] as const;
export type OptimizerName = (typeof OPTIMIZERS)[number];

export const OPTIMIZER_ROWS = {
  update_rms_clip: {
    kind: "number",
    default: 1,
    min: 0,
    group,
    about: "adafactor, adalomo: largest root mean square of a matrix's update before the learning rate; 0: off",
  },
  factored_decay_rate: {
    kind: "number",
    default: 0.8,
    above: 0,
    max: 1,
    group,
    about: "adafactor, adalomo: exponent r of the second moment's decay 1 - step^-r",
  },
  adafactor_scale_parameter: {
    kind: "boolean",
    default: false,
    group,
    about: "adafactor: learning rate relative to the root mean square of each matrix; then 1e-3 is a good rate",
  },
  sgd_momentum: {
    kind: "number",
    default: 0.9,
    above: 0,
    below: 1,
    group,
    about: "sgd: share of the earlier gradients' sum that is kept; for none, optimizer lomo",
  },
  muon_momentum: {
    kind: "number",
    default: 0.95,
    min: 0,
    below: 1,
    group,
    about: "muon: decay of the mean of gradients that is orthogonalised",
  },
  galore_rank: {
    kind: "integer",
    default: 128,
    min: 1,
    group,
    about: "galore_adamw: directions in which a matrix moves at a time; smaller matrices have adamw",
  },
  galore_update_gap: {
    kind: "integer",
    default: 200,
    min: 1,
    group,
    about: "galore_adamw: steps between new directions, which take an eigenvalue decomposition per matrix",
  },
  galore_scale: {
    kind: "number",
    default: 0.25,
    above: 0,
    group,
    about: "galore_adamw: factor on the update of projected matrices",
  },
} as const satisfies SettingRows;

const ADAMS = ["adamw", "adamw8bit", "galore_adamw", "muon"] as const;
const FACTORED = ["adafactor", "adalomo"] as const;

/** Settings without effect on other optimisers than these. */
export const OPTIMIZERS_WITH: Readonly<Record<string, readonly OptimizerName[]>> = {
  adam_beta1: ADAMS,
  adam_beta2: ADAMS,
  adam_epsilon: ADAMS,
  update_rms_clip: FACTORED,
  factored_decay_rate: FACTORED,
  adafactor_scale_parameter: ["adafactor"],
  sgd_momentum: ["sgd"],
  muon_momentum: ["muon"],
  galore_rank: ["galore_adamw"],
  galore_update_gap: ["galore_adamw"],
  galore_scale: ["galore_adamw"],
};
