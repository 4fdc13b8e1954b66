// What a run says about its optimizer before it starts. Holds nothing; refuses settings without effect on the model.
import { UserError } from "../errors.js";
import { type Model, placedWeights } from "../model/model.js";
import { optimizerEntry } from "../optim/registry.js";
import { parameterFacts } from "../step/parameter-facts.js";
import { dtype } from "../torch/tensor.js";
import type { TrainSettings } from "./settings/rows.js";

/** Notes on clipping that costs a backward pass and does little. */
export function clippingNotes({ optimizer, max_grad_norm: limit }: TrainSettings): string[] {
  if (limit === 0 || !optimizerEntry(optimizer).ignoresGradientSize) return [];
  return [
    `max_grad_norm ${limit} does little with optimizer ${optimizer}, whose updates do not grow with the gradient, and costs an extra backward pass`,
  ];
}

/** Errors: UserError for settings of the optimizer that have no effect on this model. */
export function checkOptimizer(settings: TrainSettings, model: Model): void {
  const { weights_correction } = settings;
  const type = dtype(Object.values(model.outer)[0]);
  if (weights_correction !== "none" && type !== "bfloat16") {
    throw new UserError(
      `weights_correction: ${weights_correction} has no effect: the weights of ${settings.model} are ${type} (expected bfloat16). ` +
        "Remove it, or set weights_dtype to bfloat16.",
    );
  }
  const { architecture } = model;
  const parameters = placedWeights(architecture).map((each) => parameterFacts(architecture, each));
  const problem = optimizerEntry(settings.optimizer).check?.(settings, { name: settings.model, parameters });
  if (problem !== undefined) throw new UserError(problem);
}
