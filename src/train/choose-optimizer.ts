// From settings to the optimiser they name. Holds nothing; refuses what would have no effect on the model at hand.
import { UserError } from "../errors.js";
import { type Model, placedParameters } from "../model/model.js";
import { adafactor } from "../optim/adafactor.js";
import { adalomo } from "../optim/adalomo.js";
import { adamw } from "../optim/adamw.js";
import { adamw8bit } from "../optim/adamw8bit.js";
import { galoreAdamw } from "../optim/galore.js";
import { muon } from "../optim/muon.js";
import type { Optimizer } from "../optim/optimizer.js";
import { lomo, sgd } from "../optim/sgd.js";
import { type DType, dtype } from "../torch/tensor.js";
import { parameterFacts } from "../step/parameter-facts.js";
import type { TrainSettings } from "./settings/rows.js";

/** `productDtype` is the type of matrix products that are no part of the network. */
export function chooseOptimizer(settings: TrainSettings, productDtype: DType): Optimizer {
  const { weight_decay: weightDecay } = settings;
  const adam = { beta1: settings.adam_beta1, beta2: settings.adam_beta2, epsilon: settings.adam_epsilon, weightDecay };
  const factored = { decayRate: settings.factored_decay_rate, updateClip: settings.update_rms_clip, weightDecay };
  switch (settings.optimizer) {
    case "adamw":
      return adamw(adam);
    case "adamw8bit":
      return adamw8bit(adam);
    case "adafactor":
      return adafactor({ ...factored, scaleParameter: settings.adafactor_scale_parameter });
    case "adalomo":
      return adalomo(factored);
    case "lomo":
      return lomo({ weightDecay });
    case "sgd":
      return sgd({ momentum: settings.sgd_momentum, weightDecay });
    case "galore_adamw":
      return galoreAdamw({
        ...adam,
        rank: settings.galore_rank,
        updateGap: settings.galore_update_gap,
        scale: settings.galore_scale,
      });
    case "muon":
      return muon({ ...adam, momentum: settings.muon_momentum, productDtype });
  }
}

const SCALED = ["muon", "adafactor", "adalomo"];

/** What the person should know of clipping that they pay for. */
export function clippingNotes({ optimizer, max_grad_norm: limit }: TrainSettings): string[] {
  if (limit === 0 || !SCALED.includes(optimizer)) return [];
  return [
    `max_grad_norm ${limit} does little with optimizer ${optimizer}, whose updates do not grow with the gradient, and costs an extra backward pass`,
  ];
}

/** Refuses settings of the optimiser that have no effect on this model. */
export function checkOptimizer({ galore_rank, weights_correction, ...settings }: TrainSettings, model: Model): void {
  const type = dtype(Object.values(model.outer)[0]);
  if (weights_correction !== "none" && type !== "bfloat16") {
    throw new UserError(
      `weights_correction: ${weights_correction} has no effect: the weights of ${settings.model} are ${type} (expected bfloat16). ` +
        "Remove it, or set weights_dtype to bfloat16.",
    );
  }
  if (settings.optimizer !== "galore_adamw") return;
  const { architecture, config } = model;
  const hidden = placedParameters(architecture, config)
    .map((placed) => parameterFacts(architecture, config, placed))
    .filter(({ kind }) => kind === "hidden");
  const widest = Math.max(...hidden.map(({ rows, columns }) => Math.min(rows, columns)));
  if (galore_rank >= widest) {
    throw new UserError(
      `galore_rank: ${galore_rank} leaves no matrix of ${settings.model} to project (expected less than ${widest}, the longest shorter side). ` +
        "Set a smaller rank, or optimizer to adamw.",
    );
  }
}
