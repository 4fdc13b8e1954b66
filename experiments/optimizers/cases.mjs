// What experiments/optimizers compares: our settings of each case, and the published implementation for its curve.
export const ROWS = 2;
export const ROW_TOKENS = 64;
export const COURSE = { warmupSteps: 10, maxGradNorm: 1 };
const ADAM = { adam_beta1: 0.9, adam_beta2: 0.95, adam_epsilon: 1e-8 };
export const CASES = {
  adamw: {
    reference: "torch.optim.AdamW",
    settings: { optimizer: "adamw", learning_rate: 3e-4, weight_decay: 0.1, ...ADAM },
  },
  adamw8bit: {
    reference: "bitsandbytes AdamW8bit",
    settings: { optimizer: "adamw8bit", learning_rate: 3e-4, weight_decay: 0.1, ...ADAM },
  },
  adafactor: { reference: "transformers Adafactor", settings: { optimizer: "adafactor", learning_rate: 1e-3 } },
  adalomo: { reference: "lomo_optim AdaLomo", settings: { optimizer: "adalomo", learning_rate: 1e-2 } },
  lomo: { reference: "lomo_optim Lomo", settings: { optimizer: "lomo", learning_rate: 0.3 } },
  sgd: { reference: "torch.optim.SGD", settings: { optimizer: "sgd", learning_rate: 0.03, sgd_momentum: 0.9 } },
  galore_adamw: {
    reference: "galore_torch GaLoreAdamW",
    settings: { optimizer: "galore_adamw", learning_rate: 1e-3, galore_rank: 64, galore_update_gap: 50, ...ADAM },
  },
  muon: { reference: "torch.optim.Muon", settings: { optimizer: "muon", learning_rate: 1e-3, ...ADAM } },
};
