// The settings of `train` that say how blocks are reversed and where memory goes.
import { SIZE_OR_NONE } from "../../settings/size.js";
import type { SettingRows } from "../../settings/table.js";

const REVERSIBLE = "Reversible blocks and memory";

// +-1/2, +-1/4 to +-1/256: factors that shift bits (reversible/couplings/momentum.ts).
const POWERS = Array.from({ length: 8 }, (_, m) => 2 ** -(m + 1)).flatMap((size) => [-size, size]);
const POWERS_IN_WORDS = "+ or - one of 1/2, 1/4, 1/8 to 1/256";
const DISTILL = "Distillation after conversion";
const REVFFN = "Coupling revffn: adapters and inverse";

export const REVERSIBLE_ROWS = {
  method: {
    kind: "choice",
    choices: ["reversible", "checkpoint", "checkpoint-offload", "store"],
    default: "reversible",
    group: REVERSIBLE,
    about:
      "what is kept of the forward pass: the last block's streams, each block's input (offload: in host memory; on the cpu " +
      "the same as checkpoint), or everything",
  },
  parameters: {
    kind: "choice",
    choices: ["device", "host", "disk"],
    default: "device",
    group: REVERSIBLE,
    about:
      "where weights and optimizer state lie while no block uses them; host: in host memory beside a GPU; disk: in files in output_dir/working, " +
      "updated in place",
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
    choices: ["momentum", "bdia", "additive", "revffn", "ordinary"],
    default: "momentum",
    group: REVERSIBLE,
    about:
      "how streams pass a block; momentum starts near the pretrained network; bdia trains it with noise; ordinary is that one, not reversible",
  },
  gamma: {
    kind: "number",
    default: -1 / 256,
    otherwise: [
      // It draws the sign.
      { given: "coupling", when: { coupling: "bdia" }, value: 0.0625 },
      // Without a grid every block divides by gamma, and rounding grows with that.
      { given: "stream", when: { stream: "float32", coupling: "momentum" }, value: -1 },
    ],
    oneOf: [-1, ...POWERS],
    expected: `-1, or ${POWERS_IN_WORDS}`,
    group: REVERSIBLE,
    about:
      "share of momentum kept by a block (bdia draws the sign: 1/16; -1 with stream float32); stored bits per element: +-1/2 1, +-1/4 2, +-1/8 and +-1/16 4, down to +-1/256 8; -1 none, and it starts far from a pretrained network",
  },
  gamma_final: {
    kind: "number",
    default: 0,
    oneOf: [0, ...POWERS],
    expected: `0, or ${POWERS_IN_WORDS}`,
    group: REVERSIBLE,
    about:
      "halves gamma down to this late in training, so that the export as the ordinary network loses less; 0: gamma stays",
  },
  gamma_final_ratio: {
    kind: "number",
    default: 0.2,
    above: 0,
    max: 1,
    group: REVERSIBLE,
    about: "share of the steps, at the end, in which gamma goes down to gamma_final",
  },
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
    min: 0,
    group: REVERSIBLE,
    about:
      "tokens that pass a feed-forward layer at once; fewer take less memory on long sequences, with smaller products; 0: all",
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

export const REVFFN_ROWS = {
  reconstruction: {
    kind: "choice",
    choices: ["fixed_point", "stored_hint"],
    default: "fixed_point",
    group: REVFFN,
    about:
      "how the first stream comes back: by iteration alone, or exactly, with the few bits kept by which that is off",
  },
  fixed_point_iterations: {
    kind: "integer",
    default: 10,
    min: 1,
    max: 1000,
    group: REVFFN,
    about: "evaluations of attention at most to rebuild a block",
  },
  fixed_point_tolerance: {
    kind: "number",
    default: 0,
    min: 0,
    group: REVFFN,
    about: "stop when no element changes by more; 0: when nothing changes on the grid",
  },
  fixed_point_start: {
    kind: "choice",
    choices: ["output", "zero"],
    default: "output",
    group: REVFFN,
    about: "where the iteration starts: at the block's output, or at zero",
  },
  fixed_point_damping: {
    kind: "number",
    default: 1,
    above: 0,
    max: 1,
    group: REVFFN,
    about: "share of each step taken; below 1 where the plain iteration swings",
  },
  fixed_point_anderson: {
    kind: "boolean",
    default: false,
    group: REVFFN,
    about: "accelerate the iteration by mixing its last two values",
  },
  adapter_sharing: {
    kind: "choice",
    choices: ["layer", "stream"],
    default: "layer",
    group: REVFFN,
    about: "a pair of adapters per layer, or one for each stream of it",
  },
  adapter_init: {
    kind: "choice",
    choices: ["random", "identity"],
    default: "identity",
    group: REVFFN,
    about: "random, or each half of the hidden state kept in its place",
  },
  adapter_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: REVFFN,
    about:
      "first steps of the run in which adapters alone are trained; the paper then trains the rest with freeze_router",
  },
  adapter_learning_rate: {
    kind: "number",
    default: 0,
    min: 0,
    group: REVFFN,
    about: "highest learning rate in adapter_steps, which have a warm-up and a decay of their own; 0: learning_rate",
  },
} as const satisfies SettingRows;
