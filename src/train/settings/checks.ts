// Checks of settings of `train` that exclude each other or would have no effect. Each is a sentence that names both
// sides and both ways out. Checks of rows and of a run's course have their own files; ranges of single settings are in
// their rows.
import { isCpu } from "../../torch/device.js";
import { STORE_NAMES, STORES } from "../../store/registry.js";
import { hasAllOnDevice } from "../../store/store.js";
import { parseBytes } from "../../format.js";
import { OPTIMIZERS_WITH } from "../../optim/registry.js";
import { couplingOf, describeNetwork, ORDINARY } from "../../network/description.js";
import {
  COUPLING_NAMES,
  COUPLINGS_WITH_GAMMA,
  couplingProblem,
  DEFAULT_COUPLING,
  hasGamma,
} from "../../reversible/couplings/registry.js";
import { METHODS } from "../../reversible/methods/registry.js";
import { tooManyTokens } from "../../settings/limits.js";
import type { Given } from "../../settings/table.js";
import { COURSE_PROBLEMS } from "./course-checks.js";
import { ROW_PROBLEMS } from "./row-checks.js";
import type { Problem, TrainSettings } from "./rows.js";

const PROBLEMS: readonly Problem[] = [
  ({ per_device_train_batch_size: rows, max_length: length }, at) => tooManyTokens(rows, length, at),
  (settings, at) =>
    METHODS[settings.method].rebuilds &&
    !couplingOf(describeNetwork(settings)).reversible &&
    `${at.subject("coupling")} cannot be reversed, which ${at.mention("method")} needs. ` +
      `Set method to store or checkpoint, or coupling to ${DEFAULT_COUPLING}.`,
  ({ coupling }, at) =>
    !hasGamma(coupling) &&
    at.has("gamma") &&
    `${at.subject("gamma")} has no effect: only couplings ${COUPLINGS_WITH_GAMMA.join(" and ")} have it, not ${at.mention("coupling")}. ` +
      `Remove gamma, or set coupling to ${DEFAULT_COUPLING}.`,
  ({ on_nonfinite: policy }, at) =>
    policy === "stop" &&
    at.has("nonfinite_limit") &&
    `${at.subject("nonfinite_limit")} has no effect: ${at.mention("on_nonfinite")} stops at the first. Remove nonfinite_limit, or set on_nonfinite to skip or rollback.`,
  ({ spike_threshold: threshold }, at) =>
    threshold === 0 &&
    at.has("spike_window") &&
    `${at.subject("spike_window")} has no effect: ${at.mention("spike_threshold")} looks for no spikes. Remove one of the two.`,
  ({ coupling, gamma, gamma_final: end }, at) =>
    end !== 0 &&
    (!hasGamma(coupling) || Math.abs(end) >= Math.abs(gamma) || Math.sign(end) !== Math.sign(gamma)) &&
    `${at.subject("gamma_final")} is not smaller than ${at.mention("gamma")} with the same sign, in a coupling that has one (${at.mention("coupling")}). ` +
      "Set a larger gamma or a smaller gamma_final, or remove gamma_final.",
  ({ gamma_final: end }, at) =>
    end === 0 &&
    at.has("gamma_final_ratio") &&
    `${at.subject("gamma_final_ratio")} has no effect: gamma stays as it is. Remove gamma_final_ratio, or set gamma_final.`,
  (settings, at) =>
    settings.blocks_per_step > 1 &&
    !takesUnits(settings) &&
    `${at.subject("blocks_per_step")} is not possible with ${at.mention("coupling")}, which does not pass a block as one function. ` +
      `Remove blocks_per_step, or set coupling to ${COUPLING_NAMES.filter((coupling) => takesUnits({ ...settings, coupling })).join(" or ")}.`,
  (settings, at) => couplingProblem(settings, METHODS[settings.method].rebuilds, at),
  ({ adapter_steps: steps }, at) => withoutSteps("adapter_learning_rate", "adapter_steps", steps, at),
  ({ distill_steps: steps }, at) => withoutSteps("distill_learning_rate", "distill_steps", steps, at),
  ({ distill_steps: steps }, at) => withoutSteps("distill_temperature", "distill_steps", steps, at),
  ({ distill_steps: steps, coupling }, at) =>
    steps > 0 &&
    coupling === ORDINARY.coupling &&
    `${at.subject("distill_steps")} has no effect: ${at.mention("coupling")} is the original network already. ` +
      `Remove distill_steps, or set coupling to ${DEFAULT_COUPLING}.`,
  ({ distill_steps: steps, init_weights }, at) =>
    steps > 0 &&
    init_weights === "random" &&
    `${at.subject("distill_steps")} needs an original network to learn from, which ${at.mention("init_weights")} is not. ` +
      "Remove distill_steps, or set init_weights to checkpoint.",
  ({ coupling, checkpoint_first_blocks: first, checkpoint_last_blocks: last }, at) =>
    first + last > 0 &&
    coupling === ORDINARY.coupling &&
    `${at.subject(first > 0 ? "checkpoint_first_blocks" : "checkpoint_last_blocks")} has no effect: all blocks are ordinary with ${at.mention("coupling")}. ` +
      `Remove it, or set coupling to ${DEFAULT_COUPLING}.`,
  ({ memory_limit, device }, at) =>
    memory_limit !== "" &&
    device !== "cpu" &&
    `${at.subject("memory_limit")} has no effect: it limits the cpu, not ${at.mention("device")}. Remove one of the two.`,
  ({ memory_limit }, at) =>
    memory_limit !== "" &&
    parseBytes(memory_limit) === 0 &&
    `${at.subject("memory_limit")} leaves no memory (expected a size such as 8GiB). Remove it for no limit.`,
  ({ stored_bits, device }, at) =>
    stored_bits === "host" &&
    isCpu(device) &&
    `${at.subject("stored_bits")} has no effect: ${at.mention("device")} is the host. Remove stored_bits, or set device to cuda.`,
  ({ parameters, device }, at) =>
    STORES[parameters].needsGpu &&
    isCpu(device) &&
    `${at.subject("parameters")} has no effect: ${at.mention("device")} is the host. Remove parameters, or set device to cuda.`,
  ({ parameters, blocks_on_device: blocks }, at) =>
    STORES[parameters].lies !== "memory" &&
    blocks > 0 &&
    `${at.subject("blocks_on_device")} has no effect: only parameters host has it, not ${at.mention("parameters")}. ` +
      "Remove blocks_on_device, or set parameters to host.",
  ({ parameters, method }, at) =>
    !hasAllOnDevice(STORES[parameters]) &&
    METHODS[method].holdsBlocks &&
    `${at.subject("parameters")} saves nothing: ${at.mention("method")} holds the weights of every block. ` +
      "Set method to reversible or checkpoint, or remove parameters.",
  ({ parameters, durability }, at) =>
    STORES[parameters].shared &&
    STORES[parameters].lies === "files" &&
    durability === "step" &&
    `${at.subject("durability")} is of one process: with ${at.mention("parameters")} ranks go on from checkpoints. Remove durability, and set save_steps.`,
  ({ parameters }, at) =>
    STORES[parameters].lies !== "files" &&
    at.has("durability") &&
    `${at.subject("durability")} has no effect: only parameters disk has it, not ${at.mention("parameters")}. ` +
      "Remove durability, or set parameters to disk.",
  ({ parameters, share_experts: shared }, at) =>
    !STORES[parameters].shared &&
    shared !== "weights" &&
    `${at.subject("share_experts")} has no effect: only ${STORE_NAMES.filter((name) => STORES[name].shared).join(" and ")} have it, not ${at.mention("parameters")}. ` +
      "Remove share_experts, or set parameters to sharded.",
  ({ share_experts: shared, rank_sums: sums }, at) =>
    shared === "rows" &&
    sums === "ordered" &&
    at.has("rank_sums") &&
    `${at.subject("share_experts")} adds gradients as rank_sums direct does, not as ${at.mention("rank_sums")}: all ranks are at the same block at the same time. ` +
      "Remove one of the two, or set rank_sums to direct.",
  ({ coupling, stream }, at) =>
    coupling === ORDINARY.coupling &&
    stream !== "int32" &&
    `${at.subject("stream")} has no effect: streams are rebuilt in no block with ${at.mention("coupling")}. ` +
      `Remove stream, or set coupling to ${DEFAULT_COUPLING}.`,
  ({ coupling }, at) =>
    coupling === ORDINARY.coupling &&
    at.has("stream_fraction_bits") &&
    `${at.subject("stream_fraction_bits")} has no effect: ` +
      `streams are rebuilt in no block with ${at.mention("coupling")}. ` +
      `Remove stream_fraction_bits, or set coupling to ${DEFAULT_COUPLING}.`,
  ({ stream }, at) =>
    stream === "float32" &&
    at.has("stream_fraction_bits") &&
    `${at.subject("stream_fraction_bits")} has no effect: ${at.mention("stream")} has no grid. ` +
      "Remove stream_fraction_bits, or set stream to int32 or int64.",
  ({ stream, stream_fraction_bits: bits }, at) =>
    stream === "int32" &&
    bits > 28 &&
    `${at.subject("stream_fraction_bits")} leaves ${at.mention("stream")} no room for whole numbers ` +
      "(expected at most 28). Set fewer bits, or stream to int64.",
  ({ warmup_steps }, at) =>
    warmup_steps > 0 &&
    at.has("warmup_ratio") &&
    `${at.subject("warmup_ratio")} has no effect: ${at.mention("warmup_steps")} says how long warm-up is. ` +
      "Remove warmup_ratio or warmup_steps.",
  ({ lr_scheduler_type: type }, at) =>
    (type === "constant" || type === "constant_with_warmup") &&
    at.has("min_lr_ratio") &&
    `${at.subject("min_lr_ratio")} has no effect: ` +
      `the learning rate never falls with ${at.mention("lr_scheduler_type")}. ` +
      "Remove min_lr_ratio, or set lr_scheduler_type to cosine or linear.",
  ({ lr_scheduler_type: type }, at) =>
    type !== "warmup_stable_decay" &&
    at.has("decay_ratio") &&
    `${at.subject("decay_ratio")} has no effect with ${at.mention("lr_scheduler_type")}. ` +
      "Remove decay_ratio, or set lr_scheduler_type to warmup_stable_decay.",
  ({ sequence_ranks: ranks, share_experts: shared }, at) =>
    ranks > 1 &&
    shared === "rows" &&
    `${at.subject("share_experts")} cannot be had with ${at.mention("sequence_ranks")}: ranks would wait for rows of one another in two ways. Remove one of the two.`,
  ({ sequence_ranks: ranks, rank_sums: order }, at) =>
    ranks > 1 &&
    order === "ordered" &&
    `${at.subject("rank_sums")} makes ranks wait for one another's gradients, while with ${at.mention("sequence_ranks")} they compute each block together. ` +
      "Remove rank_sums, or set it to direct.",
  ({ rank_transport: transport, rank_sums: order }, at) =>
    transport === "nccl" &&
    order === "ordered" &&
    `${at.subject("rank_transport")} needs ranks that are at the same block at the same time, and with ${at.mention("rank_sums")} each is behind the one before it. ` +
      "Set rank_sums to direct, or rank_transport to gloo.",
  ...ROW_PROBLEMS,
  ({ router_aux_loss_coef: coef }, at) =>
    coef === 0 &&
    at.has("router_aux_loss_type") &&
    `${at.subject("router_aux_loss_type")} has no effect: ${at.mention("router_aux_loss_coef")} asks for no such loss. ` +
      "Remove router_aux_loss_type, or set router_aux_loss_coef.",
  ({ router_aux_loss_coef: coef, freeze_router }, at) => frozenLoss("router_aux_loss_coef", coef, freeze_router, at),
  ({ router_z_loss_coef: coef, freeze_router }, at) => frozenLoss("router_z_loss_coef", coef, freeze_router, at),
  ({ router_bias_update_rate: rate, freeze_router }, at) =>
    rate > 0 &&
    freeze_router &&
    `${at.subject("router_bias_update_rate")} moves what ${at.mention("freeze_router")} holds still. Remove one of the two.`,
  ({ expert_group_size: size, method }, at) =>
    size > 0 &&
    METHODS[method].holdsBlocks &&
    `${at.subject("expert_group_size")} is not possible with ${at.mention("method")}, whose graphs make every gradient of a block at once. ` +
      "Remove expert_group_size, or set method to reversible or checkpoint.",
  ({ max_grad_norm: all, max_block_grad_norm: each }, at) =>
    all > 0 &&
    each > 0 &&
    `${at.subject("max_grad_norm")} limits all gradients together, and ${at.mention("max_block_grad_norm")} each block's by itself. ` +
      "Remove one of the two.",
  ...COURSE_PROBLEMS,
  ({ weights_dtype, weights_correction }, at) =>
    weights_dtype === "float32" &&
    weights_correction !== "none" &&
    `${at.subject("weights_correction")} has no effect: ${at.mention("weights_dtype")} needs no correction. ` +
      "Remove weights_correction, or set weights_dtype to bfloat16.",
  ...Object.entries(OPTIMIZERS_WITH).map(
    ([name, optimizers]): Problem =>
      ({ optimizer }, at) =>
        at.has(name) &&
        !optimizers.includes(optimizer) &&
        `${at.subject(name)} has no effect: only ${optimizers.join(", ")} ${optimizers.length > 1 ? "have" : "has"} it, ` +
          `not ${at.mention("optimizer")}. Remove ${name}, or set optimizer to ${optimizers.join(" or ")}.`,
  ),
];

/** Whether several blocks can be rebuilt as one. */
const takesUnits = (settings: TrainSettings): boolean => {
  const coupling = couplingOf(describeNetwork(settings));
  return coupling.reversible && coupling.takesUnits;
};

const withoutSteps = (name: keyof TrainSettings, of: keyof TrainSettings, steps: number, at: Given): string | false =>
  steps === 0 &&
  at.has(name) &&
  `${at.subject(name)} has no effect: ${at.mention(of)} has none. Remove ${name}, or set ${of}.`;

const frozenLoss = (name: string, coefficient: number, frozen: boolean, at: Given): string | false =>
  coefficient > 0 &&
  frozen &&
  `${at.subject(name)} is there to move the router, which ${at.mention("freeze_router")} holds still: ` +
    `it would bend the hidden states instead. Remove ${name} or freeze_router.`;

/** The first problem of settings that are each possible by themselves, or undefined. */
export function checkTrainSettings(settings: TrainSettings, given: Given): string | undefined {
  for (const problem of PROBLEMS) {
    const message = problem(settings, given);
    if (message !== false) return message;
  }
  return undefined;
}
