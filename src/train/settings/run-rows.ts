// The settings of `train` for what happens around the steps: evaluation, checkpoints, metrics, going on, and the seed.
import { REPORT_TO, REPORT_TO_ABOUT, REPORTS_WITH_NAME } from "../../metrics/sinks/registry.js";
import { RANK_TRANSPORTS, SUM_ORDERS } from "../../parallel/collectives.js";
import type { SettingRows } from "../../settings/table.js";

const GROUP = "Evaluation, checkpoints and the run";

export const RUN_ROWS = {
  eval_strategy: {
    kind: "choice",
    choices: ["steps", "epoch", "no"],
    default: "steps",
    group: GROUP,
    about:
      "when to evaluate the held-out rows: every eval_steps, after each epoch, or never; start and end are evaluated in any case",
  },
  eval_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: GROUP,
    about: "steps between evaluations; 0: only at start and end",
  },
  save_strategy: {
    kind: "choice",
    choices: ["steps", "epoch", "no"],
    default: "steps",
    group: GROUP,
    about:
      "when to save a checkpoint: every save_steps, after each epoch, or never; with the first two also after the last step",
  },
  save_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: GROUP,
    about: "steps between checkpoints; 0: none, and then a finished run cannot be continued",
  },
  save_total_limit: {
    kind: "integer",
    default: 0,
    min: 0,
    group: GROUP,
    about: "how many of the newest checkpoints to keep, besides the best one with load_best_model_at_end; 0: all",
  },
  load_best_model_at_end: {
    kind: "boolean",
    default: false,
    group: GROUP,
    about:
      "save the network of the best evaluation in final/, not the last one; each evaluation that is the best so far gets a checkpoint",
  },
  metric_for_best_model: {
    kind: "choice",
    choices: ["eval_loss", "eval_mean_token_accuracy"],
    default: "eval_loss",
    group: GROUP,
    about: "which evaluation is the best: that with the lowest loss, or with the highest accuracy",
  },
  early_stopping_patience: {
    kind: "integer",
    default: 0,
    min: 0,
    group: GROUP,
    about: "end the run after this many evaluations in a row that are no better than the best before them; 0: off",
  },
  early_stopping_threshold: {
    kind: "number",
    default: 0,
    min: 0,
    group: GROUP,
    about: "how much better an evaluation must be to count as better for early_stopping_patience",
  },
  disk_full_wait: {
    kind: "integer",
    default: 10,
    min: 0,
    group: GROUP,
    about: "minutes to wait for room if the disk is full when the result is saved; 0: do not wait",
  },
  logging_steps: {
    kind: "integer",
    default: 1,
    min: 1,
    group: GROUP,
    about: "steps between lines of metrics; losses and accuracies are means over the steps since the last line",
  },
  report_to: {
    kind: "choice",
    choices: REPORT_TO,
    list: true,
    metavar: "NAME,...",
    default: ["none"],
    group: GROUP,
    about: `where metrics are sent, besides the terminal and metrics.jsonl; ${REPORT_TO_ABOUT}`,
  },
  run_name: {
    kind: "string",
    default: "",
    metavar: "NAME",
    group: GROUP,
    about: `name of the run in ${REPORTS_WITH_NAME.join(", ")} (see report_to); none: the name of output_dir`,
  },
  resume: {
    kind: "string",
    default: "",
    metavar: "FOLDER",
    group: GROUP,
    about: 'checkpoint-N folder to continue from, or "latest"',
  },
  rank_timeout: {
    kind: "integer",
    default: 1800,
    min: 1,
    max: 604800,
    group: GROUP,
    about:
      "seconds that a rank waits for another before the run ends; must be longer than a save or an evaluation takes",
  },
  rank_sums: {
    kind: "choice",
    choices: SUM_ORDERS,
    default: "ordered",
    otherwise: [{ given: "sequence_ranks", when: { sequence_ranks: /^(?!1$)/ }, value: "direct" }],
    group: GROUP,
    about:
      "how ranks add up gradients; ordered: in the order of one process, with the same bits; each rank is a block behind the one before it; direct: without that delay and with less to send, but bits depend on the number of ranks. With sequence_ranks always direct",
  },
  rank_transport: {
    kind: "choice",
    choices: RANK_TRANSPORTS,
    default: "gloo",
    group: GROUP,
    about:
      "what carries tensors between ranks. gloo: through main memory. nccl: from card to card, over NVIDIA's library, with rank_sums direct and a card for each rank",
  },
  sequence_ranks: {
    kind: "integer",
    default: 1,
    min: 1,
    max: 1024,
    group: GROUP,
    about:
      "how many ranks work on each micro-batch together, for long rows: attention is divided by heads, all else by tokens. Must divide the number of ranks and of the model's heads",
  },
  share_experts: {
    kind: "choice",
    choices: ["weights", "rows", "auto"],
    default: "weights",
    group: GROUP,
    about:
      "how ranks that share parameters use experts; weights: a block's experts are sent to every rank; rows: experts stay, and rows of tokens are sent to them and back, which is less in short steps; gradients are added as with rank_sums direct; auto: whichever sends less",
  },
  seed: {
    kind: "integer",
    default: 42,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    group: GROUP,
    about: "seed for the order of rows, stochastic rounding and all else that is random",
  },
} as const satisfies SettingRows;
