// The settings of `train` for routers: losses on their logits, noise, their correction, and whether they are trained.
// docs/router.md says what each does.
import type { SettingRows } from "../../settings/table.js";

const GROUP = "Router";

export const ROUTER_ROWS = {
  router_aux_loss_coef: {
    kind: "number",
    default: 0,
    min: 0,
    group: GROUP,
    about: "weight of the load-balancing loss; 0: off, even if config.json has one; 0.001 is usual",
  },
  router_aux_loss_type: {
    kind: "choice",
    choices: ["pooled", "layer"],
    default: "pooled",
    group: GROUP,
    about:
      "form of the load-balancing loss; pooled: one loss over all layers, as in transformers (at balance, the number of experts per token); layer: the mean of the layers' losses (at balance, 1)",
  },
  router_z_loss_coef: {
    kind: "number",
    default: 0,
    min: 0,
    group: GROUP,
    about: "weight of the router z-loss, the mean of logsumexp(router logits)^2; 0: off; 0.001 is usual",
  },
  router_jitter_noise: {
    kind: "number",
    default: 0,
    min: 0,
    below: 1,
    group: GROUP,
    about:
      "in training, multiply the input of layers with experts by noise between 1 - this and 1 + this; 0: off, even if config.json has it",
  },
  router_bias_update_rate: {
    kind: "number",
    default: 0,
    min: 0,
    group: GROUP,
    about:
      "how far each step moves an expert's correction bias toward an even load, in models that have one (e_score_correction_bias); 0: not at all; 0.001 is usual",
  },
  freeze_router: {
    kind: "boolean",
    default: false,
    group: GROUP,
    about: "do not train the weights that choose experts; they have no gradient and no optimizer state",
  },
} as const satisfies SettingRows;
