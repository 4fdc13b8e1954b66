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
    about: "when held-out rows are evaluated, beside start and end: every eval_steps, behind each epoch, or never",
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
      "when a checkpoint is saved: every save_steps, behind each epoch, or never; with either, behind the last step, too",
  },
  save_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: GROUP,
    about: "steps between checkpoints; 0: none, so that a run that has ended cannot go on",
  },
  save_total_limit: {
    kind: "integer",
    default: 0,
    min: 0,
    group: GROUP,
    about: "newest checkpoints to keep, and the best with load_best_model_at_end; 0: all",
  },
  load_best_model_at_end: {
    kind: "boolean",
    default: false,
    group: GROUP,
    about: "final/ holds the network of the best evaluation; each that is the best so far gets a checkpoint",
  },
  metric_for_best_model: {
    kind: "choice",
    choices: ["eval_loss", "eval_mean_token_accuracy"],
    default: "eval_loss",
    group: GROUP,
    about: "what makes an evaluation the best: the lowest loss, or the highest accuracy",
  },
  early_stopping_patience: {
    kind: "integer",
    default: 0,
    min: 0,
    group: GROUP,
    about:
      "the run ends when so many evaluations, one after the other, are no better than the best before them; 0: off",
  },
  early_stopping_threshold: {
    kind: "number",
    default: 0,
    min: 0,
    group: GROUP,
    about: "how much better an evaluation must be to count as better, for early_stopping_patience",
  },
  disk_full_wait: {
    kind: "integer",
    default: 10,
    min: 0,
    group: GROUP,
    about: "minutes that the result waits for room; 0: none",
  },
  logging_steps: {
    kind: "integer",
    default: 1,
    min: 1,
    group: GROUP,
    about: "steps between lines of metrics; losses and accuracies are means of the steps since the last line",
  },
  report_to: {
    kind: "choice",
    choices: REPORT_TO,
    list: true,
    metavar: "NAME,...",
    default: ["none"],
    group: GROUP,
    about: `where else metrics go, beside the terminal and metrics.jsonl. ${REPORT_TO_ABOUT}`,
  },
  run_name: {
    kind: "string",
    default: "",
    metavar: "NAME",
    group: GROUP,
    about: `what the run is called where ${REPORTS_WITH_NAME.join(", ")} of report_to show it; none: the name of output_dir`,
  },
  resume: {
    kind: "string",
    default: "",
    metavar: "FOLDER",
    group: GROUP,
    about: 'a checkpoint-N folder to go on from, or "latest"',
  },
  rank_timeout: {
    kind: "integer",
    default: 1800,
    min: 1,
    max: 604800,
    group: GROUP,
    about: "of several ranks: seconds that one waits for another before the run ends; more than a save takes",
  },
  rank_sums: {
    kind: "choice",
    choices: SUM_ORDERS,
    default: "ordered",
    otherwise: [{ given: "sequence_ranks", when: { sequence_ranks: /^(?!1$)/ }, value: "direct" }],
    group: GROUP,
    about:
      "how ranks add gradients. ordered: as one process, for its bits; each rank is a block behind the one before it. direct: without that wait and with less to send; bits depend on the number of ranks. With sequence_ranks: direct",
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
      "how many ranks hold each micro-batch together, for long rows: attention is shared out by heads, all else by tokens. Must divide the number of ranks, and the heads of the model",
  },
  share_experts: {
    kind: "choice",
    choices: ["weights", "rows", "auto"],
    default: "weights",
    group: GROUP,
    about:
      "where ranks share parameters. weights: a block's experts are brought to every rank. rows: they stay, and rows of tokens go there and back, which is less to send in short steps; gradients are added as with rank_sums direct. auto: what sends less",
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
