// The settings of `train` for updates: the optimizer, its learning rate over the run, and limits on gradients. Settings
// of one optimizer are in its own file, and come in with the registry.
import {
  goodRatesInWords,
  OPTIMIZER_GROUP,
  OPTIMIZER_NAMES,
  OPTIMIZER_ROWS,
  stateBytesInWords,
} from "../../optim/registry.js";
import { SCHEDULES } from "../../optim/schedule.js";
import type { SettingRows } from "../../settings/table.js";

export const UPDATE_ROWS = {
  optimizer: {
    kind: "choice",
    choices: OPTIMIZER_NAMES,
    default: "adamw",
    group: OPTIMIZER_GROUP,
    about: `update rule, applied block by block in the backward pass; bytes of state per parameter: ${stateBytesInWords()}`,
  },
  learning_rate: {
    kind: "number",
    default: 1e-5,
    above: 0,
    group: OPTIMIZER_GROUP,
    about: `highest learning rate; good values to train all parameters of a pretrained model: ${goodRatesInWords()}`,
  },
  lr_scheduler_type: {
    kind: "choice",
    choices: SCHEDULES,
    default: "cosine",
    group: OPTIMIZER_GROUP,
    about:
      "how the learning rate goes on after the warm-up; constant and constant_with_warmup are the same here; warmup_stable_decay is constant and falls only at the end",
  },
  warmup_ratio: {
    kind: "number",
    default: 0.03,
    min: 0,
    max: 1,
    group: OPTIMIZER_GROUP,
    about: "share of the steps in which the learning rate rises from 0 to its highest value",
  },
  warmup_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: OPTIMIZER_GROUP,
    about: "number of warm-up steps, instead of warmup_ratio; 0: use warmup_ratio",
  },
  min_lr_ratio: {
    kind: "number",
    default: 0.1,
    min: 0,
    max: 1,
    group: OPTIMIZER_GROUP,
    about: "final learning rate of cosine, linear and warmup_stable_decay, as a share of learning_rate",
  },
  decay_ratio: {
    kind: "number",
    default: 0.1,
    above: 0,
    max: 1,
    group: OPTIMIZER_GROUP,
    about: "share of the steps, at the end, in which warmup_stable_decay lowers the learning rate",
  },
  weight_decay: {
    kind: "number",
    default: 0,
    min: 0,
    group: OPTIMIZER_GROUP,
    about:
      "decoupled weight decay: each step multiplies weights by 1 - learning rate x this; norms and biases have none",
  },
  max_grad_norm: {
    kind: "number",
    default: 0,
    min: 0,
    group: OPTIMIZER_GROUP,
    about:
      "clip the norm of all gradients together, as transformers and TRL do. An extra backward pass measures it: a step takes 1.75 times as long (twice with method store); 0: off",
  },
  max_block_grad_norm: {
    kind: "number",
    default: 1,
    otherwise: [{ given: "max_grad_norm", value: 0 }],
    min: 0,
    group: OPTIMIZER_GROUP,
    about:
      "clip the norm of each block's gradient by itself, at no cost; 0: off, which is the default if max_grad_norm is given",
  },
  freeze: {
    kind: "string",
    list: true,
    metavar: "NAME,...",
    default: [],
    group: OPTIMIZER_GROUP,
    about:
      "parameters that are not trained; they have no gradient and no optimizer state. Names as in the checkpoint, with * for any text: model.embed_tokens.* or model.layers.0.*",
  },
  ...OPTIMIZER_ROWS,
} as const satisfies SettingRows;
