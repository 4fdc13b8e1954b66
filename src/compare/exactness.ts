// How exact a coupling's backward pass is, on a small model of the real code: the error of the rebuilt first streams,
// and the gradients compared with those of stored activations, with random and with trained weights. An experiment owns
// its model until `close`. It trains with stored activations, so training does not depend on the inverse.
import { type Batch, NO_LABEL } from "../data/batches.js";
import { UserError } from "../errors.js";
import { withAdapters } from "../model/adapters.js";
import { freeModel, type Model, randomModel } from "../model/model.js";
import { readArchitecture } from "../families/registry.js";
import { adamw } from "../optim/adamw.js";
import type { Coupling } from "../reversible/coupling.js";
import { METHODS } from "../reversible/methods/registry.js";
import { gridStreams, type StreamFormat } from "../reversible/streams.js";
import type { DType } from "../torch/tensor.js";
import type { Network } from "../network/network.js";
import { OptimizerStates } from "../step/optimizer-states.js";
import { type StepResult, trainStep } from "../step/step.js";
import { memorizeGradients } from "./gradients.js";
import { deviceStore } from "../store/device.js";

const VOCABULARY = 256;
const CONFIG = {
  model_type: "qwen2_moe",
  vocab_size: VOCABULARY,
  hidden_size: 64,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  intermediate_size: 64,
  moe_intermediate_size: 32,
  shared_expert_intermediate_size: 32,
  num_experts: 4,
  num_experts_per_tok: 2,
  norm_topk_prob: true,
  initializer_range: 0.05,
};

export interface Exactness {
  /** Largest difference of an element of the rebuilt first streams. */
  reconstructionError: number;
  /** Norm of the difference to the gradients of stored activations / norm of those; NaN if either is not finite. */
  gradientError: number;
}

export interface Experiment {
  /** Makes steps on successive pieces of the text; returns the loss of each. */
  train(steps: number, learningRate: number): number[];
  /** Null if rebuilt values leave the range of numbers. `other` has the same forward pass and another backward pass. */
  measure(format: StreamFormat, computeDtype: DType, other?: Coupling): Exactness | null;
  close(): void;
}

/** Text as bytes; a step reads `documents` pieces of `length` bytes. */
export interface Reading {
  text: Uint8Array;
  documents: number;
  length: number;
}

export function openExperiment(coupling: Coupling, numLayers: number, reading: Reading): Experiment {
  const plain = readArchitecture({ ...CONFIG, num_hidden_layers: numLayers }, "test");
  const architecture = coupling.halves ? withAdapters(plain, { sharing: "stream", init: "identity" }) : plain;
  const model = randomModel(architecture, 1, "float32", "cpu");
  const states = new OptimizerStates(adamw({ beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 }), model);
  let steps = 0;
  const usual = networkOf(model, coupling, gridStreams("int32", 16), "float32");
  return {
    train: (count, learningRate) =>
      Array.from({ length: count }, () => {
        const batch = pieceOf(reading, steps++);
        return trainStep(usual, states, [batch], {
          ...OPTIONS,
          method: METHODS.store,
          step: steps,
          learningRate,
          maxBlockGradNorm: 1,
        }).loss;
      }),
    measure: (format, computeDtype, other = coupling) => {
      const network = networkOf(model, other, format, computeDtype);
      // A piece that no step has read yet.
      const batch = pieceOf(reading, 1_000_003);
      const memory = memorizeGradients();
      const take = (method: "store" | "reversible"): StepResult =>
        trainStep(network, new OptimizerStates(memory.next(), model), [batch], {
          ...OPTIONS,
          method: METHODS[method],
          step: 1,
          learningRate: 0,
          maxBlockGradNorm: 0,
        });
      take("store");
      try {
        const { reconstructionError } = take("reversible");
        return { reconstructionError: reconstructionError ?? Number.NaN, gradientError: memory.relativeError() };
      } catch (failure) {
        if (failure instanceof UserError) return null;
        throw failure;
      }
    },
    close: () => {
      states.free();
      freeModel(model);
    },
  };
}

const OPTIONS = { seed: 1 };

const networkOf = (model: Model, coupling: Coupling, format: StreamFormat, computeDtype: DType): Network => ({
  model,
  coupling,
  format,
  computeDtype,
  device: "cpu",
  store: deviceStore("cpu"),
  lossTileTokens: 128,
});

function pieceOf({ text, documents, length }: Reading, index: number): Batch {
  const count = documents * length;
  const start = (index * count) % (text.length - count);
  const tokens = Int32Array.from(text.subarray(start, start + count));
  return {
    tokens,
    labels: Int32Array.from(tokens, (_, i) => ((i + 1) % length === 0 ? NO_LABEL : tokens[i + 1])),
    positions: Int32Array.from(tokens, (_, i) => i % length),
    segments: new Array<number>(documents).fill(length),
    trainedTokens: documents * (length - 1),
  };
}
