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
    about: `update rule, applied block by block; state bytes per parameter: ${stateBytesInWords()}`,
  },
  learning_rate: {
    kind: "number",
    default: 1e-5,
    above: 0,
    group: OPTIMIZER_GROUP,
    about: `highest learning rate; for all parameters of a pretrained model ${goodRatesInWords()}`,
  },
  lr_scheduler_type: {
    kind: "choice",
    choices: SCHEDULES,
    default: "cosine",
    group: OPTIMIZER_GROUP,
    about:
      "course of the learning rate after warm-up; constant_with_warmup is constant; warmup_stable_decay stays and falls at the end alone",
  },
  warmup_ratio: {
    kind: "number",
    default: 0.03,
    min: 0,
    max: 1,
    group: OPTIMIZER_GROUP,
    about: "share of the steps in which the learning rate rises from 0",
  },
  warmup_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: OPTIMIZER_GROUP,
    about: "the same as a number of steps; 0: by warmup_ratio",
  },
  min_lr_ratio: {
    kind: "number",
    default: 0.1,
    min: 0,
    max: 1,
    group: OPTIMIZER_GROUP,
    about: "end of cosine, linear or warmup_stable_decay as a share of learning_rate",
  },
  decay_ratio: {
    kind: "number",
    default: 0.1,
    above: 0,
    max: 1,
    group: OPTIMIZER_GROUP,
    about: "share of the steps in which the learning rate of warmup_stable_decay falls, at the end",
  },
  weight_decay: {
    kind: "number",
    default: 0,
    min: 0,
    group: OPTIMIZER_GROUP,
    about: "decoupled weight decay per step, times the learning rate",
  },
  max_grad_norm: {
    kind: "number",
    default: 0,
    min: 0,
    group: OPTIMIZER_GROUP,
    about:
      "clips all gradients together to this norm, as transformers and TRL do; an extra backward pass measures it: a step takes " +
      "1.75 times the time, with method store twice; 0: off",
  },
  max_block_grad_norm: {
    kind: "number",
    default: 1,
    otherwise: [{ given: "max_grad_norm", value: 0 }],
    min: 0,
    group: OPTIMIZER_GROUP,
    about:
      "clips each block's gradient by itself to this norm, at no cost; 0: off, as it is where max_grad_norm is given",
  },
  freeze: {
    kind: "string",
    list: true,
    metavar: "NAME,...",
    default: [],
    group: OPTIMIZER_GROUP,
    about:
      "parameters to leave as they are, without gradient and optimizer state: names in the checkpoint, with * for anything, as model.embed_tokens.* or model.layers.0.*",
  },
  ...OPTIMIZER_ROWS,
} as const satisfies SettingRows;
