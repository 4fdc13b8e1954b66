// The settings of `train`, each once: the type, flags, --help, the check of config files, the docs and the record saved
// with a run all follow from these rows. Names are those of TRL and transformers where they have one.
import { OPTIMIZER_ROWS, OPTIMIZERS } from "./optimizer-rows.js";
import type { SettingRows, SettingsOf } from "./settings-table.js";

const MODEL = "Model and data";
const REVERSIBLE = "Reversible blocks and memory";
const OPTIMIZER = "Optimizer";
const LENGTH = "Length and batches";
const RUN = "Evaluation, checkpoints and the run";

export const TRAIN_ROWS = {
  model: {
    kind: "string",
    required: true,
    metavar: "FOLDER",
    group: MODEL,
    about: "folder of a Hugging Face checkpoint",
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
    about: "start anew in a folder that already holds a run; its checkpoints are removed",
  },
  format: {
    kind: "choice",
    choices: ["auto", "messages", "prompt_completion", "text"],
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
    group: MODEL,
    about: "tokens of a row at most; with packing, tokens of a pack",
  },
  packing: {
    kind: "boolean",
    default: true,
    group: MODEL,
    about: "fill rows of max_length with whole documents; no attention between them",
  },

  method: {
    kind: "choice",
    choices: ["reversible", "checkpoint", "store"],
    default: "reversible",
    group: REVERSIBLE,
    about: "what is kept of the forward pass: the last block's streams, each block's input, or everything",
  },
  coupling: {
    kind: "choice",
    choices: ["momentum", "additive", "ordinary"],
    default: "momentum",
    group: REVERSIBLE,
    about: "how streams pass a block; momentum starts as the pretrained network; ordinary is that one, not reversible",
  },
  gamma: {
    kind: "number",
    default: 0.25,
    oneOf: [-1, -0.5, 0.5, -0.25, 0.25, -0.125, 0.125],
    group: REVERSIBLE,
    about: "share of momentum kept by a block; stored bits per element: +-0.5 1, +-0.25 2, +-0.125 4, -1 none",
  },
  stream: {
    kind: "choice",
    choices: ["int32", "int64", "float32"],
    default: "int32",
    group: REVERSIBLE,
    about: "type of the residual streams; integers reverse bit-exactly",
  },
  stream_fraction_bits: {
    kind: "integer",
    default: 0,
    min: 0,
    max: 52,
    group: REVERSIBLE,
    about: "fractional bits of an integer stream; 0: 16 for int32, 32 for int64",
  },
  weights_dtype: {
    kind: "choice",
    choices: ["auto", "bfloat16", "float32"],
    default: "auto",
    group: REVERSIBLE,
    about: "type of the weights; auto: the checkpoint's; bfloat16: updated with stochastic rounding; float32: masters",
  },
  weights_correction: {
    kind: "choice",
    choices: ["none", "8bit"],
    default: "none",
    group: REVERSIBLE,
    about: "8bit: a byte more per bfloat16 weight makes a 24-bit master, rounded to nearest instead of stochastically",
  },
  compute_dtype: {
    kind: "choice",
    choices: ["auto", "bfloat16", "float32"],
    default: "auto",
    group: REVERSIBLE,
    about: "type of the matrix products; auto: what the device multiplies fastest",
  },
  device: {
    kind: "string",
    default: "cpu",
    metavar: "DEVICE",
    pattern: /^(cpu|cuda(:\d+)?)$/,
    expected: "cpu, cuda or cuda:N",
    group: REVERSIBLE,
    about: "where to compute: cpu, cuda or cuda:N",
  },
  threads: { kind: "integer", default: 0, min: 0, group: REVERSIBLE, about: "CPU threads; 0: all cores" },
  loss_tile_tokens: {
    kind: "integer",
    default: 1024,
    min: 1,
    group: REVERSIBLE,
    about: "tokens whose logits exist at once; fewer take less memory and a little more time",
  },

  optimizer: {
    kind: "choice",
    choices: OPTIMIZERS,
    default: "adamw",
    group: OPTIMIZER,
    about:
      "update rule, applied block by block; state bytes per parameter: adamw 8, adamw8bit 2, muon 4, sgd 4, " +
      "galore_adamw by galore_rank, adafactor and adalomo below 0.05, lomo 0",
  },
  learning_rate: {
    kind: "number",
    default: 1e-5,
    above: 0,
    group: OPTIMIZER,
    about:
      "highest learning rate; for all parameters of a pretrained model 1e-5 to 2e-5 with adamw, adamw8bit, adafactor and muon, " +
      "4e-5 to 1e-4 with galore_adamw, 5e-4 to 1e-3 with adalomo, 1e-2 to 1e-1 with lomo, a tenth of that with sgd",
  },
  lr_scheduler_type: {
    kind: "choice",
    choices: ["cosine", "linear", "constant"],
    default: "cosine",
    group: OPTIMIZER,
    about: "course of the learning rate after warm-up",
  },
  warmup_ratio: {
    kind: "number",
    default: 0.03,
    min: 0,
    max: 1,
    group: OPTIMIZER,
    about: "share of the steps in which the learning rate rises from 0",
  },
  warmup_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: OPTIMIZER,
    about: "the same as a number of steps; 0: by warmup_ratio",
  },
  min_lr_ratio: {
    kind: "number",
    default: 0.1,
    min: 0,
    max: 1,
    group: OPTIMIZER,
    about: "end of cosine or linear as a share of learning_rate",
  },
  weight_decay: {
    kind: "number",
    default: 0,
    min: 0,
    group: OPTIMIZER,
    about: "decoupled weight decay per step, times the learning rate",
  },
  adam_beta1: {
    kind: "number",
    default: 0.9,
    min: 0,
    below: 1,
    group: OPTIMIZER,
    about: "decay of Adam's mean of gradients",
  },
  adam_beta2: {
    kind: "number",
    default: 0.95,
    min: 0,
    below: 1,
    group: OPTIMIZER,
    about: "decay of Adam's mean of squared gradients",
  },
  adam_epsilon: { kind: "number", default: 1e-8, above: 0, group: OPTIMIZER, about: "added to Adam's denominator" },
  max_block_grad_norm: {
    kind: "number",
    default: 1,
    min: 0,
    group: OPTIMIZER,
    about: "clips each block's gradient by itself to this norm; 0: off",
  },
  ...OPTIMIZER_ROWS,

  num_train_epochs: {
    kind: "number",
    default: 1,
    above: 0,
    group: LENGTH,
    about: "passes over the training rows; may be a fraction",
  },
  max_steps: { kind: "integer", default: 0, min: 0, group: LENGTH, about: "optimizer steps; 0: by num_train_epochs" },
  per_device_train_batch_size: { kind: "integer", default: 4, min: 1, group: LENGTH, about: "rows of a micro-batch" },
  gradient_accumulation_steps: {
    kind: "integer",
    default: 1,
    min: 1,
    group: LENGTH,
    about: "micro-batches of an optimizer step",
  },
  per_device_eval_batch_size: {
    kind: "integer",
    default: 4,
    min: 1,
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
  logging_steps: { kind: "integer", default: 1, min: 1, group: RUN, about: "steps between lines of metrics" },
  resume: {
    kind: "string",
    default: "",
    metavar: "FOLDER",
    group: RUN,
    about: 'a checkpoint-N folder to go on from, or "latest"',
  },
  seed: { kind: "integer", default: 42, min: 0, group: RUN, about: "of the order of rows and of stochastic rounding" },
} as const satisfies SettingRows;

export type TrainSettings = SettingsOf<typeof TRAIN_ROWS>;

/** What other trainers call things, for people who bring their config along. */
export const TRAIN_ELSEWHERE = {
  model_name_or_path: "Use model (a folder).",
  dataset_name: "Use train_file (a file).",
  dataset_path: "Use train_file (a file).",
  max_seq_length: "Use max_length.",
  optim: "Use optimizer.",
  max_grad_norm: "All gradients never exist at once: use max_block_grad_norm, which clips each block by itself.",
  gradient_checkpointing: "Use method: checkpoint, or leave it out: reversible blocks need less memory.",
  bf16: "Use compute_dtype: bfloat16 and weights_dtype: bfloat16.",
  fp16: "Use compute_dtype: bfloat16.",
  eval_strategy: "Use eval_steps.",
  save_strategy: "Use save_steps.",
  logging_strategy: "Use logging_steps.",
  resume_from_checkpoint: "Use resume.",
} as const;
