import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { OPTIMIZERS_WITH } from "../../optim/registry.js";
import { resolveSettings } from "./settings.js";
import type { SettingValue } from "../../settings/table.js";

const BASE = { model: "base", train_file: "train.jsonl", output_dir: "runs/a" };
const withFlags = (flags: Record<string, SettingValue>): unknown =>
  resolveSettings({ flags: { ...BASE, ...flags } }).settings;

const REFUSED: [Record<string, SettingValue>, string][] = [
  [
    { max_grad_norm: "1", max_block_grad_norm: "0.5" },
    "--max-grad-norm 1 limits all gradients together, and --max-block-grad-norm 0.5 each block's by itself. Remove one of the two.",
  ],
  [
    { coupling: "ordinary" },
    "--coupling ordinary cannot be reversed, which method reversible (the default) needs. " +
      "Set method to store or checkpoint, or coupling to momentum.",
  ],
  [
    { coupling: "bdia", gamma: "-0.25" },
    "--gamma -0.25 has no sign of its own with --coupling bdia, which draws it (expected 1/2, 1/4, 1/8 to 1/256). Drop the minus.",
  ],
  [
    { gamma: "0.25", gamma_final: "-0.125" },
    "--gamma-final -0.125 is not smaller than --gamma 0.25 with the same sign, in a coupling that has one (coupling momentum (the default)). " +
      "Set a larger gamma or a smaller gamma_final, or remove gamma_final.",
  ],
  [
    { gamma_final_ratio: "0.5" },
    "--gamma-final-ratio 0.5 has no effect: gamma stays as it is. Remove gamma_final_ratio, or set gamma_final.",
  ],
  [
    { coupling: "additive", blocks_per_step: "2" },
    "--blocks-per-step 2 is not possible with --coupling additive, which does not pass a block as one function. " +
      "Remove blocks_per_step, or set coupling to momentum or bdia.",
  ],
  [
    { coupling: "ordinary", method: "checkpoint", checkpoint_last_blocks: "1" },
    "--checkpoint-last-blocks 1 has no effect: all blocks are ordinary with --coupling ordinary. Remove it, or set coupling to momentum.",
  ],
  [
    { stored_bits: "host" },
    "--stored-bits host has no effect: device cpu (the default) is the host. Remove stored_bits, or set device to cuda.",
  ],
  [
    { parameters: "host" },
    "--parameters host has no effect: device cpu (the default) is the host. Remove parameters, or set device to cuda.",
  ],
  [
    { parameters: "disk", method: "store" },
    "--parameters disk saves nothing: --method store holds the weights of every block. " +
      "Set method to reversible or checkpoint, or remove parameters.",
  ],
  [
    { durability: "step" },
    "--durability step has no effect: only parameters disk has it, not parameters device (the default). " +
      "Remove durability, or set parameters to disk.",
  ],
  [
    { share_experts: "auto" },
    "--share-experts auto has no effect: only sharded and sharded-disk have it, not parameters device (the default). " +
      "Remove share_experts, or set parameters to sharded.",
  ],
  [
    { parameters: "sharded", share_experts: "rows", rank_sums: "ordered" },
    "--share-experts rows adds gradients as rank_sums direct does, not as --rank-sums ordered: all ranks are at the same block at the same time. " +
      "Remove one of the two, or set rank_sums to direct.",
  ],
  [
    { rank_transport: "nccl" },
    "--rank-transport nccl needs ranks that are at the same block at the same time, and with rank_sums ordered (the default) each is behind the one before it. " +
      "Set rank_sums to direct, or rank_transport to gloo.",
  ],
  [
    { coupling: "additive", gamma: "0.25" },
    "--gamma 0.25 has no effect: only couplings momentum and bdia have it, not --coupling additive. " +
      "Remove gamma, or set coupling to momentum.",
  ],
  [
    { coupling: "ordinary", method: "store", stream: "int64" },
    "--stream int64 has no effect: streams are rebuilt in no block with --coupling ordinary. " +
      "Remove stream, or set coupling to momentum.",
  ],
  [
    { coupling: "ordinary", method: "store", stream_fraction_bits: "16" },
    "--stream-fraction-bits 16 has no effect: streams are rebuilt in no block with --coupling ordinary. " +
      "Remove stream_fraction_bits, or set coupling to momentum.",
  ],
  [
    { stream: "float32", stream_fraction_bits: "12" },
    "--stream-fraction-bits 12 has no effect: --stream float32 has no grid. " +
      "Remove stream_fraction_bits, or set stream to int32 or int64.",
  ],
  [
    { stream_fraction_bits: "29" },
    "--stream-fraction-bits 29 leaves stream int32 (the default) no room for whole numbers (expected at most 28). " +
      "Set fewer bits, or stream to int64.",
  ],
  [
    { warmup_steps: "10", warmup_ratio: "0.1" },
    "--warmup-ratio 0.1 has no effect: --warmup-steps 10 says how long warm-up is. " +
      "Remove warmup_ratio or warmup_steps.",
  ],
  [
    { lr_scheduler_type: "constant", min_lr_ratio: "0.1" },
    "--min-lr-ratio 0.1 has no effect: the learning rate never falls with --lr-scheduler-type constant. " +
      "Remove min_lr_ratio, or set lr_scheduler_type to cosine or linear.",
  ],
  [
    { validation_file: "v.jsonl", validation_rows: "20" },
    "--validation-rows 20 has no effect: --validation-file v.jsonl is what is evaluated. " +
      "Remove validation_rows or validation_file.",
  ],
  [
    { format: "text", assistant_only_loss: true },
    "--assistant-only-loss has no effect: --format text has no assistant's turns. " +
      "Remove assistant_only_loss, or set format to messages or auto.",
  ],
  [
    { format: "prompt_completion", assistant_only_loss: false },
    "--no-assistant-only-loss has no effect: --format prompt_completion has no assistant's turns. " +
      "Remove assistant_only_loss, or set format to messages or auto.",
  ],
  [
    { format: "messages", completion_only_loss: false },
    "--no-completion-only-loss has no effect: --format messages has no completion. " +
      "Remove completion_only_loss, or set format to prompt_completion or auto.",
  ],
  [
    { router_aux_loss_type: "layer" },
    "--router-aux-loss-type layer has no effect: router_aux_loss_coef 0 (the default) asks for no such loss. " +
      "Remove router_aux_loss_type, or set router_aux_loss_coef.",
  ],
  [
    { router_aux_loss_coef: "0.01", freeze_router: true },
    "--router-aux-loss-coef 0.01 is there to move the router, which --freeze-router holds still: " +
      "it would bend the hidden states instead. Remove router_aux_loss_coef or freeze_router.",
  ],
  [
    { router_z_loss_coef: "0.01", freeze_router: true },
    "--router-z-loss-coef 0.01 is there to move the router, which --freeze-router holds still: " +
      "it would bend the hidden states instead. Remove router_z_loss_coef or freeze_router.",
  ],
  [
    { router_bias_update_rate: "0.001", freeze_router: true },
    "--router-bias-update-rate 0.001 moves what --freeze-router holds still. Remove one of the two.",
  ],
  [
    { nonfinite_limit: "3" },
    "--nonfinite-limit 3 has no effect: on_nonfinite stop (the default) stops at the first. " +
      "Remove nonfinite_limit, or set on_nonfinite to skip or rollback.",
  ],
  [
    { spike_threshold: "0", spike_window: "20" },
    "--spike-window 20 has no effect: --spike-threshold 0 looks for no spikes. Remove one of the two.",
  ],
  [
    { max_steps: "5", num_train_epochs: "2" },
    "--num-train-epochs 2 has no effect: --max-steps 5 says how long to train. Remove num_train_epochs or max_steps.",
  ],
  [
    { eval_steps: "10" },
    "--eval-steps 10 has no effect: there is nothing to evaluate on. " +
      "Remove eval_steps, or set validation_file or validation_rows.",
  ],
  [
    { save_total_limit: "2" },
    "--save-total-limit 2 has no effect: save_steps 0 (the default) makes no checkpoints. " +
      "Remove save_total_limit, or set save_steps.",
  ],
  [
    { save_strategy: "epoch", save_steps: "5" },
    "--save-steps 5 has no effect with --save-strategy epoch. Remove one of the two.",
  ],
  [
    { eval_strategy: "no", eval_steps: "5", validation_rows: "5" },
    "--eval-steps 5 has no effect with --eval-strategy no. Remove one of the two.",
  ],
  [
    { eval_strategy: "epoch" },
    "--eval-strategy epoch has no effect: there is nothing to evaluate on. Remove eval_strategy, or set validation_file or validation_rows.",
  ],
  [
    { load_best_model_at_end: true, validation_rows: "5" },
    "--load-best-model-at-end needs evaluations to choose from: eval_steps 0 (the default) makes one, at the end. " +
      "Set eval_steps, or eval_strategy to epoch, or remove load_best_model_at_end.",
  ],
  [
    { early_stopping_patience: "2", validation_rows: "5", eval_strategy: "no" },
    "--early-stopping-patience 2 needs evaluations to choose from: --eval-strategy no makes one, at the end. " +
      "Set eval_steps, or eval_strategy to epoch, or remove early_stopping_patience.",
  ],
  [
    { early_stopping_threshold: "0.1" },
    "--early-stopping-threshold 0.1 has no effect: early_stopping_patience 0 (the default) stops no run early. Remove one of the two.",
  ],
  [
    { metric_for_best_model: "eval_loss" },
    "--metric-for-best-model eval_loss has no effect: nothing asks which evaluation is the best. " +
      "Remove it, or set load_best_model_at_end or early_stopping_patience.",
  ],
  [
    { decay_ratio: "0.2" },
    "--decay-ratio 0.2 has no effect with lr_scheduler_type cosine (the default). " +
      "Remove decay_ratio, or set lr_scheduler_type to warmup_stable_decay.",
  ],
  [
    { lr_scheduler_type: "constant_with_warmup", min_lr_ratio: "0.1" },
    "--min-lr-ratio 0.1 has no effect: the learning rate never falls with --lr-scheduler-type constant_with_warmup. " +
      "Remove min_lr_ratio, or set lr_scheduler_type to cosine or linear.",
  ],
  [
    { train_on: "last", assistant_only_loss: true },
    "--assistant-only-loss has no effect: --train-on last says what is trained. Remove one of the two.",
  ],
  [
    { format: "text", chat_template: "c.jinja" },
    "--chat-template c.jinja has no effect: --format text has no turns. Remove chat_template, or set format to messages or auto.",
  ],
  [
    { format: "tokens", train_on: "last" },
    "--train-on last has no effect: --format tokens has no turns. Remove train_on, or set format to messages or auto.",
  ],
  [
    { format: "tokens", chat_template: "c.jinja" },
    "--chat-template c.jinja has no effect: --format tokens has no turns. Remove chat_template, or set format to messages or auto.",
  ],
  [
    { weights_dtype: "float32", weights_correction: "8bit" },
    "--weights-correction 8bit has no effect: --weights-dtype float32 needs no correction. " +
      "Remove weights_correction, or set weights_dtype to bfloat16.",
  ],
  [
    { sgd_momentum: "0.5" },
    "--sgd-momentum 0.5 has no effect: only sgd has it, not optimizer adamw (the default). Remove sgd_momentum, or set optimizer to sgd.",
  ],
  [
    { optimizer: "lomo", adam_beta2: "0.99" },
    `--adam-beta2 0.99 has no effect: only ${OPTIMIZERS_WITH.adam_beta2.join(", ")} have it, not --optimizer lomo. ` +
      `Remove adam_beta2, or set optimizer to ${OPTIMIZERS_WITH.adam_beta2.join(" or ")}.`,
  ],
  [
    { optimizer: "adalomo", adafactor_scale_parameter: true },
    "--adafactor-scale-parameter has no effect: only adafactor has it, not --optimizer adalomo. " +
      "Remove adafactor_scale_parameter, or set optimizer to adafactor.",
  ],
  [
    { optimizer: "sgd", update_rms_clip: "0" },
    `--update-rms-clip 0 has no effect: only ${OPTIMIZERS_WITH.update_rms_clip.join(", ")} have it, not --optimizer sgd. ` +
      `Remove update_rms_clip, or set optimizer to ${OPTIMIZERS_WITH.update_rms_clip.join(" or ")}.`,
  ],
];

for (const [flags, message] of REFUSED) {
  test(`refused: ${Object.entries(flags)
    .map((pair) => pair.join(" "))
    .join(", ")}`, () => {
    assert.throws(() => withFlags(flags), { name: "UserError", message });
  });
}

test("the ways out that the messages name are open", () => {
  const allowed: Record<string, SettingValue>[] = [
    { coupling: "ordinary", method: "store" },
    { coupling: "ordinary", method: "checkpoint", stream: "int32" },
    { coupling: "additive" },
    { coupling: "momentum", gamma: "-1" },
    { stream: "float32" },
    { stream: "int64", stream_fraction_bits: "40" },
    { stream_fraction_bits: "28" },
    { warmup_steps: "10" },
    { warmup_ratio: "0.1" },
    { warmup_steps: "0", warmup_ratio: "0.1" },
    { lr_scheduler_type: "constant" },
    { lr_scheduler_type: "linear", min_lr_ratio: "0" },
    { validation_file: "v.jsonl" },
    { validation_rows: "20" },
    { validation_file: "v.jsonl", validation_rows: "0" },
    { assistant_only_loss: false },
    { format: "messages", assistant_only_loss: false },
    { format: "text" },
    { format: "prompt_completion", completion_only_loss: false },
    {
      router_aux_loss_coef: "0.01",
      router_aux_loss_type: "layer",
      router_z_loss_coef: "0.001",
      router_jitter_noise: "0.01",
      router_bias_update_rate: "0.001",
    },
    { freeze_router: true, router_jitter_noise: "0.01", router_aux_loss_coef: "0" },
    { max_steps: "5" },
    { num_train_epochs: "2" },
    { max_steps: "0", num_train_epochs: "2" },
    { eval_steps: "10", validation_rows: "5" },
    { save_total_limit: "2", save_steps: "10" },
    { save_strategy: "epoch", save_total_limit: "1" },
    { eval_strategy: "epoch", validation_rows: "5", load_best_model_at_end: true, save_total_limit: "1" },
    { eval_steps: "5", validation_rows: "5", early_stopping_patience: "2", early_stopping_threshold: "0.1" },
    { lr_scheduler_type: "warmup_stable_decay", decay_ratio: "0.2", min_lr_ratio: "0" },
    { train_on: "last", freeze: "model.embed_tokens.*", add_tokens: "<a>,<b>" },
    { chat_template: "c.jinja", chat_template_kwargs: "enable_thinking=false" },
    { weights_correction: "8bit" },
    { weights_correction: "8bit", weights_dtype: "bfloat16" },
    { optimizer: "sgd", sgd_momentum: "0.5" },
    { optimizer: "muon", muon_momentum: "0.9", adam_beta1: "0.8" },
    { optimizer: "galore_adamw", galore_rank: "64", galore_update_gap: "50", galore_scale: "1", adam_epsilon: "1e-6" },
    { optimizer: "adafactor", adafactor_scale_parameter: true, factored_decay_rate: "1", update_rms_clip: "0" },
    { optimizer: "adalomo", update_rms_clip: "2" },
  ];
  for (const flags of allowed) assert.doesNotThrow(() => withFlags(flags), JSON.stringify(flags));
});

test("gamma's default follows coupling and stream, and a run's own record of it stands for itself", () => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-checks-"));
  try {
    const file = join(folder, "config.json");
    const cases: [Record<string, SettingValue>, number][] = [
      [{}, -1 / 256],
      [{ coupling: "bdia" }, 1 / 16],
      [{ stream: "float32" }, -1],
      [{ stream: "float32", gamma: "-1/256" }, -1 / 256],
      [{ stream: "float32", coupling: "bdia" }, 1 / 16],
      [{ stream: "float32", coupling: "additive" }, -1 / 256],
    ];
    for (const [flags, gamma] of cases) {
      const { settings } = resolveSettings({ flags: { ...BASE, ...flags } });
      assert.equal(settings.gamma, gamma, JSON.stringify(flags));
      writeFileSync(file, JSON.stringify(settings, null, 2));
      assert.deepEqual(resolveSettings({ file }).settings, settings);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("settings of a file are named with their lines", () => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-checks-"));
  try {
    const file = join(folder, "run.yaml");
    writeFileSync(file, "model: base\ntrain_file: t.jsonl\noutput_dir: runs/a\ncoupling: additive\ngamma: 0.50\n");
    assert.throws(() => resolveSettings({ file }), {
      message:
        `${file}:5: gamma 0.50 has no effect: only couplings momentum and bdia have it, not coupling additive (${file}:4). ` +
        "Remove gamma, or set coupling to momentum.",
    });
    assert.throws(() => resolveSettings({ file, flags: { coupling: "ordinary", method: "store" } }), {
      message:
        `${file}:5: gamma 0.50 has no effect: only couplings momentum and bdia have it, not --coupling ordinary. ` +
        "Remove gamma, or set coupling to momentum.",
    });
    assert.equal(resolveSettings({ file, flags: { coupling: "momentum" } }).settings.gamma, 0.5);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
