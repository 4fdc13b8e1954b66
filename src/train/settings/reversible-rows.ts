// The settings of `train` that say how blocks are reversed and where memory goes.
import { REVERSIBLE_GROUP as REVERSIBLE } from "../../reversible/couplings/definition.js";
import {
  COUPLING_NAMES,
  COUPLINGS_ABOUT,
  DEFAULT_COUPLING,
  SHARED_COUPLING_ROWS,
} from "../../reversible/couplings/registry.js";
import { DEFAULT_METHOD, METHOD_NAMES, METHODS_ABOUT } from "../../reversible/methods/registry.js";
import { SIZE_OR_NONE } from "../../settings/size.js";
import type { SettingRows } from "../../settings/table.js";
import { STORE_NAMES, STORES_IN_WORDS } from "../../store/registry.js";

const DISTILL = "Distillation after conversion";

export const REVERSIBLE_ROWS = {
  method: {
    kind: "choice",
    choices: METHOD_NAMES,
    default: DEFAULT_METHOD,
    group: REVERSIBLE,
    about: `what is kept of the forward pass: ${METHODS_ABOUT}`,
  },
  parameters: {
    kind: "choice",
    choices: STORE_NAMES,
    default: "device",
    group: REVERSIBLE,
    about: `where weights and optimizer state are kept while no block uses them; ${STORES_IN_WORDS}`,
  },
  fit: {
    kind: "boolean",
    default: false,
    group: REVERSIBLE,
    about:
      "use the fastest settings that fit this machine, for those of method, coupling, parameters, optimizer, tiles and micro-batches that you did not set (revmoe plan --fit shows all ways)",
  },
  blocks_on_device: {
    kind: "integer",
    default: 0,
    min: 0,
    group: REVERSIBLE,
    about:
      "how many blocks keep weights and state in the GPU's memory with parameters host, which saves copying them; revmoe plan says how many fit",
  },
  durability: {
    kind: "choice",
    choices: ["snapshot", "step"],
    default: "snapshot",
    group: REVERSIBLE,
    about:
      "what a crash leaves with parameters disk; snapshot: the last checkpoint-N; step: the last step, but then the old bytes of every block are written, too",
  },
  coupling: {
    kind: "choice",
    choices: COUPLING_NAMES,
    default: DEFAULT_COUPLING,
    group: REVERSIBLE,
    about: `how the residual streams pass through a block; ${COUPLINGS_ABOUT}`,
  },
  ...SHARED_COUPLING_ROWS,
  blocks_per_step: {
    kind: "integer",
    default: 1,
    min: 1,
    group: REVERSIBLE,
    about:
      "number of blocks that form one reversible step. With N there are 1/N of the stored bits per block, a gradient N times as large, and N - 1 of N blocks are evaluated once more",
  },
  checkpoint_first_blocks: {
    kind: "integer",
    default: 0,
    min: 0,
    group: REVERSIBLE,
    about: "how many of the first blocks stay ordinary, not reversible; their inputs are kept",
  },
  checkpoint_last_blocks: {
    kind: "integer",
    default: 0,
    min: 0,
    group: REVERSIBLE,
    about: "how many of the last blocks stay ordinary, not reversible; their inputs are kept",
  },
  stored_bits: {
    kind: "choice",
    choices: ["device", "host"],
    default: "device",
    group: REVERSIBLE,
    about: "where stored bits are kept until the backward pass; host: in main memory, with device cuda",
  },
  stream: {
    kind: "choice",
    choices: ["int32", "int64", "float32"],
    default: "int32",
    group: REVERSIBLE,
    about: "data type of the residual streams; integers are reversed bit for bit, float32 only nearly",
  },
  stream_fraction_bits: {
    kind: "integer",
    default: 0,
    min: 0,
    max: 52,
    group: REVERSIBLE,
    about:
      "fractional bits of an integer stream; 0: 32 for int64; 16 for int32, or fewer if this model's values are too large for that",
  },
  weights_dtype: {
    kind: "choice",
    choices: ["auto", "bfloat16", "float32"],
    default: "auto",
    group: REVERSIBLE,
    about:
      "data type of the weights; auto: as in the checkpoint; bfloat16: updated with stochastic rounding; float32: master weights",
  },
  weights_correction: {
    kind: "choice",
    choices: ["none", "8bit"],
    default: "none",
    group: REVERSIBLE,
    about:
      "extra precision for bfloat16 weights; 8bit: one more byte for each makes a 24-bit master weight, rounded to nearest instead of stochastically",
  },
  compute_dtype: {
    kind: "choice",
    choices: ["auto", "bfloat16", "float32"],
    default: "auto",
    group: REVERSIBLE,
    about: "data type of matrix products; auto: the one that the device multiplies fastest",
  },
  device: {
    kind: "string",
    default: "cpu",
    metavar: "DEVICE",
    pattern: /^(cpu|cuda(:\d+)?)$/,
    expected: "cpu, cuda or cuda:N",
    group: REVERSIBLE,
    about: "where to compute: cpu, cuda or cuda:N",
  },
  threads: { kind: "integer", default: 0, min: 0, max: 1024, group: REVERSIBLE, about: "CPU threads; 0: all cores" },
  tile_tokens: {
    kind: "integer",
    default: 4096,
    otherwise: [{ given: "device", when: { device: /^cuda/ }, value: 8192 }],
    min: 0,
    group: REVERSIBLE,
    about:
      "how many tokens pass through a feed-forward layer at once; the default on a GPU is 8192. Fewer need less memory on long sequences, but make matrix products smaller; 0: all",
  },
  expert_group_size: {
    kind: "integer",
    default: 0,
    min: 0,
    group: REVERSIBLE,
    about:
      "how many experts of a block have gradients at the same time, made after the block's backward pass; saves memory if a block's experts are large, and costs a quarter more expert products with max_block_grad_norm; 0: all",
  },
  loss_tile_tokens: {
    kind: "integer",
    default: 1024,
    min: 1,
    group: REVERSIBLE,
    about: "for how many tokens logits exist at once; fewer need less memory and a little more time",
  },
  memory_limit: {
    ...SIZE_OR_NONE,
    group: REVERSIBLE,
    about:
      "limit for the bytes of tensors on the cpu: a run that needs more stops and says what would fit, before the machine runs out; none: no limit",
  },
} as const satisfies SettingRows;

export const DISTILL_ROWS = {
  distill_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: DISTILL,
    about:
      "first steps of the run, after adapter_steps, that learn the original network's logits at all tokens instead of labels",
  },
  distill_learning_rate: {
    kind: "number",
    default: 0,
    min: 0,
    group: DISTILL,
    about: "highest learning rate in distill_steps, which have their own warm-up and decay; 0: learning_rate",
  },
  distill_temperature: {
    kind: "number",
    default: 1,
    above: 0,
    group: DISTILL,
    about: "temperature that divides the logits of both networks; above 1, unlikely tokens count for more",
  },
} as const satisfies SettingRows;
