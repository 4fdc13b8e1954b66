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
    about: `where weights and optimizer state lie while no block uses them; ${STORES_IN_WORDS}`,
  },
  fit: {
    kind: "boolean",
    default: false,
    group: REVERSIBLE,
    about:
      "take the fastest way that fits this machine (revmoe plan --fit shows all): method, coupling, parameters, optimizer, tiles and micro-batches, where they are not given",
  },
  blocks_on_device: {
    kind: "integer",
    default: 0,
    min: 0,
    group: REVERSIBLE,
    about:
      "with parameters host, blocks whose weights and state stay in the GPU's memory, which saves their copies; plan says how many fit",
  },
  durability: {
    kind: "choice",
    choices: ["snapshot", "step"],
    default: "snapshot",
    group: REVERSIBLE,
    about:
      "with parameters disk, what a crash leaves: the last checkpoint-N, or the last step, for which the old bytes of every block are written too",
  },
  coupling: {
    kind: "choice",
    choices: COUPLING_NAMES,
    default: DEFAULT_COUPLING,
    group: REVERSIBLE,
    about: `how streams pass a block; ${COUPLINGS_ABOUT}`,
  },
  ...SHARED_COUPLING_ROWS,
  blocks_per_step: {
    kind: "integer",
    default: 1,
    min: 1,
    group: REVERSIBLE,
    about:
      "blocks that make one reversible step: stored bits per block fall by it, the gradient grows by it, and all but the last of each are evaluated once more",
  },
  checkpoint_first_blocks: {
    kind: "integer",
    default: 0,
    min: 0,
    group: REVERSIBLE,
    about: "first blocks that stay as in the ordinary network, their inputs kept",
  },
  checkpoint_last_blocks: {
    kind: "integer",
    default: 0,
    min: 0,
    group: REVERSIBLE,
    about: "last blocks that stay as in the ordinary network, their inputs kept",
  },
  stored_bits: {
    kind: "choice",
    choices: ["device", "host"],
    default: "device",
    group: REVERSIBLE,
    about: "where stored bits wait for the backward pass; host: in main memory, with device cuda",
  },
  stream: {
    kind: "choice",
    choices: ["int32", "int64", "float32"],
    default: "int32",
    group: REVERSIBLE,
    about: "type of the residual streams; integers reverse bit-exactly",
  },
  stream_fraction_bits: {
    kind: "integer",
    default: 0,
    min: 0,
    max: 52,
    group: REVERSIBLE,
    about:
      "fractional bits of an integer stream; 0: 32 for int64; for int32 16, or as many as this model's largest values leave",
  },
  weights_dtype: {
    kind: "choice",
    choices: ["auto", "bfloat16", "float32"],
    default: "auto",
    group: REVERSIBLE,
    about: "type of the weights; auto: the checkpoint's; bfloat16: updated with stochastic rounding; float32: masters",
  },
  weights_correction: {
    kind: "choice",
    choices: ["none", "8bit"],
    default: "none",
    group: REVERSIBLE,
    about: "8bit: a byte more per bfloat16 weight makes a 24-bit master, rounded to nearest instead of stochastically",
  },
  compute_dtype: {
    kind: "choice",
    choices: ["auto", "bfloat16", "float32"],
    default: "auto",
    group: REVERSIBLE,
    about: "type of the matrix products; auto: what the device multiplies fastest",
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
      "tokens that pass a feed-forward layer at once, 8192 on a GPU unless said otherwise; fewer take less memory on long sequences, with " +
      "smaller products; 0: all",
  },
  expert_group_size: {
    kind: "integer",
    default: 0,
    min: 0,
    group: REVERSIBLE,
    about:
      "experts of a block whose gradients exist at a time, made when the block's backward pass is done; less memory where a block's " +
      "experts are large, and a quarter more of their products where each block's norm is limited; 0: all",
  },
  loss_tile_tokens: {
    kind: "integer",
    default: 1024,
    min: 1,
    group: REVERSIBLE,
    about: "tokens whose logits exist at once; fewer take less memory and a little more time",
  },
  memory_limit: {
    ...SIZE_OR_NONE,
    group: REVERSIBLE,
    about:
      "most bytes of tensors on the cpu: a run that needs more ends with what would fit, not the machine; none: what there is",
  },
} as const satisfies SettingRows;

export const DISTILL_ROWS = {
  distill_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: DISTILL,
    about:
      "first steps of the run that learn the original network's logits at all tokens, instead of labels; after adapter_steps",
  },
  distill_learning_rate: {
    kind: "number",
    default: 0,
    min: 0,
    group: DISTILL,
    about: "highest learning rate in distill_steps, which have a warm-up and a decay of their own; 0: learning_rate",
  },
  distill_temperature: {
    kind: "number",
    default: 1,
    above: 0,
    group: DISTILL,
    about: "divides the logits of both networks; above 1, unlikely tokens count for more",
  },
} as const satisfies SettingRows;
