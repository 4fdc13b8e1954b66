// `revmoe upcycle`: turns a dense model into a mixture of experts. Its words and settings; the work is in
// run/upcycle.ts.
import type { Given, SettingRows, SettingsOf } from "../settings/table.js";
import type { Command } from "./command.js";

const WHAT = "From and to";
const EXPERTS = "Experts";
const VALUES = "New values";

export const ROWS = {
  model: {
    kind: "string",
    required: true,
    metavar: "MODEL",
    group: WHAT,
    about: "a dense model, a folder or a .gguf file: Llama, SmolLM2, Mistral, Qwen2, Qwen2.5 or Qwen3",
  },
  output_dir: {
    kind: "string",
    required: true,
    metavar: "FOLDER",
    group: WHAT,
    about: "where the result goes: a new or empty folder",
  },
  overwrite_output_dir: {
    kind: "boolean",
    default: false,
    group: WHAT,
    about: "replace a folder that revmoe saved; files in it that revmoe did not write, or that were changed, are kept",
  },
  to: {
    kind: "choice",
    choices: ["auto", "mixtral", "qwen3_moe", "qwen2_moe"],
    default: "auto",
    group: WHAT,
    about:
      "family of the new model; auto: one that can compute the same; mixtral: no biases, no norms of queries and keys; qwen3_moe: with those norms; qwen2_moe: biases of queries, keys and values, and a shared expert",
  },
  allow_inexact: {
    kind: "boolean",
    default: false,
    group: WHAT,
    about: "also write a model that computes something else at the start; what is lost is printed",
  },
  num_experts: {
    kind: "integer",
    default: 8,
    min: 2,
    max: 1024,
    group: EXPERTS,
    about: "number of experts in a layer; each is a copy of the layer's MLP",
  },
  experts_per_token: {
    kind: "integer",
    default: 2,
    min: 2,
    group: EXPERTS,
    about:
      "number of experts that each token is sent to; with only one its gate would always be 1, and the router would never learn",
  },
  expert_width: {
    kind: "integer",
    default: 0,
    min: 0,
    group: EXPERTS,
    about:
      "inner width of an expert; 0: that of the MLP; a divisor of the MLP's width cuts each copy into slices, and the model computes the same if experts_per_token is a multiple of the number of slices",
  },
  decoder_sparse_step: {
    kind: "integer",
    default: 1,
    min: 1,
    group: EXPERTS,
    about: "give experts to every so many layers, and leave the others dense; not possible in mixtral",
  },
  router_std: {
    kind: "number",
    default: 0.02,
    above: 0,
    group: VALUES,
    about:
      "standard deviation of the router's random weights; they are random, as equal ones would send all tokens to the same experts",
  },
  noise: {
    kind: "number",
    default: 0,
    min: 0,
    max: 1,
    group: VALUES,
    about:
      "noise added to each expert, as a share of a matrix's standard deviation; 0: the model computes the same, and the router learns once the experts have grown apart, because they see different tokens",
  },
  seed: {
    kind: "integer",
    default: 42,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    group: VALUES,
    about: "seed for router and noise; the same seed gives the same files",
  },
  weights_dtype: {
    kind: "choice",
    choices: ["auto", "bfloat16", "float32"],
    default: "auto",
    group: VALUES,
    about: "data type of the saved weights; auto: as in the dense checkpoint (float32 if that has another type)",
  },
} as const satisfies SettingRows;

export type UpcycleSettings = SettingsOf<typeof ROWS>;

export const command: Command<typeof ROWS> = {
  name: "upcycle",
  usage: "revmoe upcycle --model MODEL --output-dir FOLDER [--setting value ...]",
  example: "revmoe upcycle --model SmolLM2-135M --output-dir SmolLM2-8x135M --weights-dtype bfloat16",
  settings: {
    rows: ROWS,
    elsewhere: {
      overwrite: "Use overwrite_output_dir.",
      num_local_experts: "Use num_experts.",
      num_experts_per_tok: "Use experts_per_token.",
      moe_intermediate_size: "Use expert_width.",
    },
    check: checkExperts,
  },
  json: true,
  load: () => import("./run/upcycle.js"),
};

function checkExperts(
  { num_experts: experts, experts_per_token: chosen }: UpcycleSettings,
  at: Given,
): string | undefined {
  if (chosen <= experts) return undefined;
  return `${at.subject("experts_per_token")} is more than ${at.mention("num_experts")}. Set fewer, or more experts.`;
}
