// The settings of `train`, each once: the type, flags, --help, the check of config files, the docs and the record saved
// with a run all follow from these rows. Names are those of TRL and transformers where they have one.
import {
  goodRatesInWords,
  OPTIMIZER_GROUP,
  OPTIMIZER_NAMES,
  OPTIMIZER_ROWS,
  stateBytesInWords,
} from "../../optim/registry.js";
import { COUPLING_ROWS } from "../../reversible/couplings/registry.js";
import { DISTILL_ROWS, REVERSIBLE_ROWS } from "./reversible-rows.js";
import { ROW_FORMATS } from "../../data/conversations/registry.js";
import { REPORT_TO, REPORT_TO_ABOUT } from "../../metrics/sinks/registry.js";
import { LONGEST, MOST_ROWS } from "../../settings/limits.js";
import type { SettingRows, SettingsOf } from "../../settings/table.js";
import { STABILITY_ROWS } from "./stability-rows.js";

const MODEL = "Model and data";
const ROUTER = "Router";
const LENGTH = "Length and batches";
const RUN = "Evaluation, checkpoints and the run";

export const TRAIN_ROWS = {
  model: {
    kind: "string",
    required: true,
    metavar: "FOLDER",
    group: MODEL,
    about: "folder of a Hugging Face checkpoint, a .gguf file, or a name on the hub: org/name[@revision]",
  },
  init_weights: {
    kind: "choice",
    choices: ["checkpoint", "random"],
    default: "checkpoint",
    group: MODEL,
    about: "where weights come from; random: by config.json and seed, to train from scratch",
  },
  train_file: {
    kind: "string",
    required: true,
    metavar: "FILE",
    group: MODEL,
    about: "rows to train on: .jsonl, .json or .txt",
  },
  validation_file: {
    kind: "string",
    default: "",
    metavar: "FILE",
    group: MODEL,
    about: "rows to evaluate on, never trained on",
  },
  validation_rows: {
    kind: "integer",
    default: 0,
    min: 0,
    group: MODEL,
    about: "with no validation_file: hold out this many rows from the end of train_file; 0: none; 200 is a good value",
  },
  output_dir: {
    kind: "string",
    required: true,
    metavar: "FOLDER",
    group: MODEL,
    about: "folder of the run: its settings, metrics, checkpoints and result",
  },
  overwrite_output_dir: {
    kind: "boolean",
    default: false,
    group: MODEL,
    about:
      "start anew in a folder that already holds a run: its checkpoints, result, working copy and metrics are removed",
  },
  format: {
    kind: "choice",
    choices: ["auto", ...ROW_FORMATS],
    default: "auto",
    group: MODEL,
    about: "what a row holds; auto: seen from the first rows",
  },
  columns: {
    kind: "map",
    default: {},
    group: MODEL,
    about: "names of the file's own columns: prompt=question,completion=answer",
  },
  assistant_only_loss: {
    kind: "boolean",
    default: true,
    group: MODEL,
    about: "in conversations, train on the assistant's turns only",
  },
  completion_only_loss: {
    kind: "boolean",
    default: true,
    group: MODEL,
    about: "in prompt and completion, train on the completion only",
  },
  max_length: {
    kind: "integer",
    default: 2048,
    min: 2,
    max: LONGEST,
    group: MODEL,
    about: "tokens of a row at most; with packing, tokens of a pack",
  },
  dataset_cache: {
    kind: "boolean",
    default: true,
    group: MODEL,
    about:
      "keep the tokens of rows that take long to prepare for the next start, in the cache's folder rows (REVMOE_CACHE)",
  },
  packing: {
    kind: "boolean",
    default: true,
    group: MODEL,
    about: "fill rows of max_length with whole documents; no attention between them",
  },

  ...REVERSIBLE_ROWS,
  ...DISTILL_ROWS,
  ...COUPLING_ROWS,
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
    choices: ["cosine", "linear", "constant"],
    default: "cosine",
    group: OPTIMIZER_GROUP,
    about: "course of the learning rate after warm-up",
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
    about: "end of cosine or linear as a share of learning_rate",
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
  ...OPTIMIZER_ROWS,

  ...STABILITY_ROWS,
  router_aux_loss_coef: {
    kind: "number",
    default: 0,
    min: 0,
    group: ROUTER,
    about: "weight of the load-balancing loss; 0: none, whatever config.json says; 0.001 is usual",
  },
  router_aux_loss_type: {
    kind: "choice",
    choices: ["pooled", "layer"],
    default: "pooled",
    group: ROUTER,
    about:
      "pooled: over all layers at once, as transformers, experts per token at balance; layer: their mean, 1 at balance",
  },
  router_z_loss_coef: {
    kind: "number",
    default: 0,
    min: 0,
    group: ROUTER,
    about: "weight of the mean of logsumexp(router logits)^2; 0: none; 0.001 is usual",
  },
  router_jitter_noise: {
    kind: "number",
    default: 0,
    min: 0,
    below: 1,
    group: ROUTER,
    about:
      "in training, layers with experts see their input times noise from 1 -+ this; 0: none, whatever config.json says",
  },
  freeze_router: {
    kind: "boolean",
    default: false,
    group: ROUTER,
    about: "leave the weights that choose experts as they are, without gradient and optimizer state",
  },

  num_train_epochs: {
    kind: "number",
    default: 1,
    above: 0,
    max: 1e6,
    group: LENGTH,
    about: "passes over the training rows; may be a fraction",
  },
  max_steps: { kind: "integer", default: 0, min: 0, group: LENGTH, about: "optimizer steps; 0: by num_train_epochs" },
  per_device_train_batch_size: {
    kind: "integer",
    default: 4,
    min: 1,
    max: MOST_ROWS,
    group: LENGTH,
    about: "rows of a micro-batch",
  },
  gradient_accumulation_steps: {
    kind: "integer",
    default: 1,
    min: 1,
    max: MOST_ROWS,
    group: LENGTH,
    about: "micro-batches of an optimizer step",
  },
  per_device_eval_batch_size: {
    kind: "integer",
    default: 4,
    min: 1,
    max: MOST_ROWS,
    group: LENGTH,
    about: "rows of a micro-batch in evaluation",
  },

  eval_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: RUN,
    about: "steps between evaluations; 0: only at start and end",
  },
  save_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: RUN,
    about: "steps between checkpoints; 0: only at the end",
  },
  save_total_limit: { kind: "integer", default: 0, min: 0, group: RUN, about: "newest checkpoints to keep; 0: all" },
  disk_full_wait: {
    kind: "integer",
    default: 10,
    min: 0,
    group: RUN,
    about: "minutes that the result waits for room; 0: none",
  },
  logging_steps: { kind: "integer", default: 1, min: 1, group: RUN, about: "steps between lines of metrics" },
  report_to: {
    kind: "choice",
    choices: REPORT_TO,
    list: true,
    metavar: "NAME,...",
    default: ["none"],
    group: RUN,
    about: `where else metrics go, beside the terminal and metrics.jsonl. ${REPORT_TO_ABOUT}`,
  },
  resume: {
    kind: "string",
    default: "",
    metavar: "FOLDER",
    group: RUN,
    about: 'a checkpoint-N folder to go on from, or "latest"',
  },
  seed: {
    kind: "integer",
    default: 42,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    group: RUN,
    about: "of the order of rows and of stochastic rounding",
  },
} as const satisfies SettingRows;

export type TrainSettings = SettingsOf<typeof TRAIN_ROWS>;

/** What other trainers call things, for people who bring their config along. */
export const TRAIN_ELSEWHERE = {
  model_name_or_path: "Use model (a folder).",
  dataset_name: "Use train_file (a file).",
  dataset_path: "Use train_file (a file).",
  max_seq_length: "Use max_length.",
  optim: "Use optimizer.",
  output_router_logits: "Use router_aux_loss_coef.",
  moe_aux_loss_coef: "Use router_aux_loss_coef.",
  moe_z_loss_coef: "Use router_z_loss_coef.",
  gradient_checkpointing: "Use method: checkpoint, or leave it out: reversible blocks need less memory.",
  bf16: "Use compute_dtype: bfloat16 and weights_dtype: bfloat16.",
  fp16: "Use compute_dtype: bfloat16.",
  eval_strategy: "Use eval_steps.",
  save_strategy: "Use save_steps.",
  logging_strategy: "Use logging_steps.",
  resume_from_checkpoint: "Use resume.",
} as const;
