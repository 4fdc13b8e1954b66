// The settings of `train`, each once. The type, flags, --help, the check of config files, the docs and the record saved
// with a run all follow from these rows. Each subject has a file of rows; the order here is that of the help. Names are
// those of TRL and transformers where they have one.
import { COUPLING_ROWS } from "../../reversible/couplings/registry.js";
import type { Given, SettingRows, SettingsOf } from "../../settings/table.js";
import { LENGTH_ROWS } from "./length-rows.js";
import { MODEL_ROWS } from "./model-rows.js";
import { UPDATE_ROWS } from "./optimizer-rows.js";
import { DISTILL_ROWS, REVERSIBLE_ROWS } from "./reversible-rows.js";
import { ROUTER_ROWS } from "./router-rows.js";
import { RUN_ROWS } from "./run-rows.js";
import { SAMPLE_ROWS } from "./sample-rows.js";
import { STABILITY_ROWS } from "./stability-rows.js";

export const TRAIN_ROWS = {
  ...MODEL_ROWS,
  ...REVERSIBLE_ROWS,
  ...DISTILL_ROWS,
  ...COUPLING_ROWS,
  ...UPDATE_ROWS,
  ...STABILITY_ROWS,
  ...ROUTER_ROWS,
  ...LENGTH_ROWS,
  ...SAMPLE_ROWS,
  ...RUN_ROWS,
} as const satisfies SettingRows;

export type TrainSettings = SettingsOf<typeof TRAIN_ROWS>;

/** A check of several settings: a whole message, or false. */
export type Problem = (settings: TrainSettings, given: Given) => string | false;

/** Names in other trainers, for people who bring their config along. */
export const TRAIN_ELSEWHERE = {
  model_name_or_path: "Use model: a folder, or a name on the hub.",
  dataset: "Use train_file: files, a folder, or a name on the hub.",
  dataset_name: "Use train_file: files, a folder, or a name on the hub.",
  dataset_path: "Use train_file: files, a folder, or a name on the hub.",
  dataset_config: "Name the subset in train_file, as org/name[subset/split].",
  dataset_train_split: "Name the split in train_file, as org/name[split].",
  dataset_text_field: "Use columns: {text: NAME}, and format: text.",
  epochs: "Use num_train_epochs.",
  batch_size: "Use per_device_train_batch_size.",
  lr: "Use learning_rate.",
  lr_scheduler: "Use lr_scheduler_type.",
  max_seq_length: "Use max_length.",
  optim: "Use optimizer.",
  output_router_logits: "Use router_aux_loss_coef.",
  moe_aux_loss_coef: "Use router_aux_loss_coef.",
  moe_z_loss_coef: "Use router_z_loss_coef.",
  gradient_checkpointing: "Use method: checkpoint, or leave it out: reversible blocks need less memory.",
  bf16: "Use compute_dtype: bfloat16 and weights_dtype: bfloat16.",
  fp16: "Use compute_dtype: bfloat16.",
  greater_is_better: "Use metric_for_best_model, which says it.",
  logging_strategy: "Use logging_steps.",
  resume_from_checkpoint: "Use resume.",
} as const;
