// What the quality study trains: each case is settings of `train` in addition to the common ones. The first cases are
// the most important.
const momentum = (gamma, more = {}) => ({ coupling: "momentum", gamma, ...more });

export const CASES = {
  ordinary: { coupling: "ordinary" },
  "momentum 1/4": momentum(0.25),
  "momentum -1/4": momentum(-0.25),
  "momentum 1/2": momentum(0.5),
  "momentum -1/2": momentum(-0.5),
  "momentum -1": momentum(-1),
  "momentum 1/4 to 1/16": momentum(0.25, { gamma_final: 0.0625 }),
  "momentum -1/4 to -1/16": momentum(-0.25, { gamma_final: -0.0625 }),
  "bdia 1/4": { coupling: "bdia", gamma: 0.25 },
  additive: { coupling: "additive" },
  "momentum 1/8": momentum(0.125),
  "momentum -1/8": momentum(-0.125),
  revffn: { coupling: "revffn" },
};

/**
 * Ways to store fewer bits, to start revffn, and to begin with the original's logits; trained only if --cases names
 * them or is "all".
 */
export const MORE_CASES = {
  "momentum 1/2 to 1/16": momentum(0.5, { gamma_final: 0.0625 }),
  "momentum -1/2 to -1/16": momentum(-0.5, { gamma_final: -0.0625 }),
  "momentum 1/4, 2 blocks a step": momentum(0.25, { blocks_per_step: 2 }),
  "momentum -1/2, ends ordinary": momentum(-0.5, { checkpoint_first_blocks: 1, checkpoint_last_blocks: 1 }),
  "momentum -1, ends ordinary": momentum(-1, { checkpoint_first_blocks: 1, checkpoint_last_blocks: 1 }),
  "bdia 1/8": { coupling: "bdia", gamma: 0.125 },
  "bdia 1/16": { coupling: "bdia", gamma: 0.0625 },
  "bdia 1/256": { coupling: "bdia", gamma: 1 / 256 },
  "momentum 1/16": momentum(0.0625),
  "momentum -1/16": momentum(-0.0625),
  "momentum -1/256": momentum(-1 / 256),
  "momentum -1/256, 2 blocks a step": momentum(-1 / 256, { blocks_per_step: 2 }),
  "momentum -1/16 to -1/256": momentum(-0.0625, { gamma_final: -1 / 256 }),
  "momentum -1/8 to -1/16": momentum(-0.125, { gamma_final: -0.0625 }),
  "revffn, random adapters": { coupling: "revffn", adapter_init: "random" },
  "revffn, adapters per stream": { coupling: "revffn", adapter_sharing: "stream" },
  "revffn, two stages": { coupling: "revffn", adapter_steps: 0.3, freeze_router: true },
  "revffn, distilled": { coupling: "revffn", distill_steps: 0.3 },
  "momentum -1, distilled": momentum(-1, { distill_steps: 0.3 }),
  "momentum -1/8, distilled": momentum(-0.125, { distill_steps: 0.3 }),
  "additive, distilled": { coupling: "additive", distill_steps: 0.3 },
};

/** Whether the weights also make a good ordinary network; if not, only the network as trained counts. */
export const hasOrdinaryForm = (name) => name === "ordinary" || name.startsWith("bdia") || /^momentum -?1\//.test(name);

/** The loss that counts at the end: that of the ordinary network, if the weights make a good one. */
export const finalLoss = (name, { trained, exported }) => (hasOrdinaryForm(name) ? exported : trained);

/** The couplings whose learning rates are compared. */
export const TUNED = ["ordinary", "momentum 1/4", "momentum -1", "additive"];
