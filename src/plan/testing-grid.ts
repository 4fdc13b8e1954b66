// The grid on which plans are compared with what steps really took: families, methods and couplings, optimisers, types,
// lengths and batches. Models are tiny and random: memory is deterministic.
import { readArchitecture } from "../families/registry.js";
import { freeModel, randomModel, weightBytes } from "../model/model.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { type MemoryTerms, memoryTerms } from "../step/memory-terms.js";
import { describeNetwork, extensionOf } from "../network/description.js";
import { trainsOf } from "../train/phases.js";
import { networkOf, statesOf } from "../train/prepare-network.js";
import { resolveSettings, type TrainSettings } from "../train/settings/settings.js";
import type { SettingValue } from "../settings/table.js";
import { stepOptions } from "../train/step-options.js";
import { trainStep } from "../step/step.js";
import { fullBatch } from "../train/full-batch.js";
import { plannedPhase, type ShadowStep, shadowStep } from "./shadow-step.js";

/** Sizes that all families of the grid share. */
export const SIZES = {
  vocab_size: 512,
  hidden_size: 64,
  intermediate_size: 96,
  moe_intermediate_size: 48,
  shared_expert_intermediate_size: 96,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  num_hidden_layers: 3,
  num_experts: 8,
  num_local_experts: 8,
  n_routed_experts: 8,
  moe_num_experts: 8,
  num_experts_per_tok: 2,
  moe_k: 2,
  max_position_embeddings: 4096,
  initializer_range: 0.05,
};

export interface Point {
  family: string;
  flags: Record<string, SettingValue>;
  sizes?: Record<string, unknown>;
}

export interface Compared {
  planned: ShadowStep;
  measured: MemoryTerms;
  /** (planned - measured) / measured, of the peak. */
  error: number;
}

export function settingsOf(flags: Record<string, SettingValue>): TrainSettings {
  return resolveSettings({
    flags: { model: "-", train_file: "-", output_dir: "-", compute_dtype: "float32", device: TEST_DEVICE, ...flags },
  }).settings;
}

/** Plans the first step and takes it. */
export function compare({ family, flags, sizes = {} }: Point, seed = 3): Compared {
  const settings = settingsOf(flags);
  const source = { ...SIZES, model_type: family, ...sizes };
  const architecture = readArchitecture(source, "grid");
  const dtype = settings.weights_dtype === "bfloat16" ? "bfloat16" : "float32";
  const batches = Array.from({ length: settings.gradient_accumulation_steps }, (_, i) =>
    fullBatch(settings, architecture.vocabSize, seed + i),
  );
  const planned = shadowStep(settings, { architecture, dtypeOf: () => dtype }, batches);
  const extended = extensionOf(describeNetwork(settings))(architecture);
  const model = randomModel(extended, seed, dtype, settings.device);
  const network = { ...networkOf(settings, model), trains: trainsOf(plannedPhase(settings), settings, model) };
  const states = statesOf(settings, network);
  try {
    resetPeak(settings.device);
    const before = ledger(settings.device).liveBytes - weightBytes(model) - states.bytes;
    const result = trainStep(network, states, batches, stepOptions(settings, plannedPhase(settings), 1));
    const measured = memoryTerms(network, states, result);
    measured.peakBytes -= before;
    return { planned, measured, error: planned.terms.peakBytes / measured.peakBytes - 1 };
  } finally {
    states.free();
    freeModel(model);
  }
}
