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
    about: "weight of the load-balancing loss; 0: none, whatever config.json says; 0.001 is usual",
  },
  router_aux_loss_type: {
    kind: "choice",
    choices: ["pooled", "layer"],
    default: "pooled",
    group: GROUP,
    about:
      "pooled: over all layers at once, as transformers, experts per token at balance; layer: their mean, 1 at balance",
  },
  router_z_loss_coef: {
    kind: "number",
    default: 0,
    min: 0,
    group: GROUP,
    about: "weight of the mean of logsumexp(router logits)^2; 0: none; 0.001 is usual",
  },
  router_jitter_noise: {
    kind: "number",
    default: 0,
    min: 0,
    below: 1,
    group: GROUP,
    about:
      "in training, layers with experts see their input times noise from 1 -+ this; 0: none, whatever config.json says",
  },
  router_bias_update_rate: {
    kind: "number",
    default: 0,
    min: 0,
    group: GROUP,
    about:
      "by how much a step moves each expert's correction bias toward even load, where a model has such; 0: it stays; 0.001 is usual",
  },
  freeze_router: {
    kind: "boolean",
    default: false,
    group: GROUP,
    about: "leave the weights that choose experts as they are, without gradient and optimizer state",
  },
} as const satisfies SettingRows;
