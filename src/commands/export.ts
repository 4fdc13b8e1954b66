// `revmoe export`: writes a run's result as a Hugging Face folder. Its words and settings; the work is in
// run/export.ts.
import { TRAIN_ROWS } from "../train/settings/rows.js";
import { SIZE } from "../settings/size.js";
import type { Given, SettingRows, SettingsOf } from "../settings/table.js";
import type { Command } from "./command.js";

const WHAT = "What is exported";
const FORM = "Form of the result";
const LOSS = "Held-out loss";

export const ROWS = {
  model: {
    kind: "string",
    required: true,
    metavar: "FOLDER",
    group: WHAT,
    about:
      "a run's folder (its final/, or else its newest checkpoint), the folder of a Hugging Face checkpoint, or org/name[@revision]",
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
  as: {
    kind: "choice",
    choices: ["auto", "ordinary", "trained"],
    default: "auto",
    group: WHAT,
    about:
      "which network to write; ordinary: the ordinary network, even if it computes something else than was trained; trained: the trained one, with the code that transformers needs to load it (trust_remote_code); auto: the ordinary one, if it is near the trained one",
  },
  layout: {
    kind: "choice",
    choices: ["per-expert", "fused"],
    default: "per-expert",
    group: FORM,
    about:
      "form of the experts; per-expert: one matrix per expert, which every loader reads; fused: stacked as in transformers 5",
  },
  dtype: {
    kind: "choice",
    choices: ["auto", "bfloat16", "float16", "float32", "mxfp4"],
    default: "auto",
    group: FORM,
    about:
      "data type of the weights; auto: as they are; mxfp4: experts of gpt_oss in the 4-bit floats of its releases, all else in bfloat16; tensors that no layer here uses are always copied as they are",
  },
  max_shard_bytes: {
    ...SIZE,
    default: "5GB",
    group: FORM,
    about: "largest size of a file of weights",
  },
  validation_file: {
    kind: "string",
    default: "",
    metavar: "FILE...",
    group: LOSS,
    fromList: TRAIN_ROWS.train_file.fromList,
    about:
      "held-out rows, named as for revmoe train; prints the loss as trained and as exported; the rows are read with the settings of the run",
  },
  device: { ...TRAIN_ROWS.device, group: LOSS, about: "where to compute the loss: cpu, cuda or cuda:N" },
  threads: { ...TRAIN_ROWS.threads, group: LOSS },
  compute_dtype: {
    ...TRAIN_ROWS.compute_dtype,
    group: LOSS,
    about: "data type of matrix products; auto: the one that the device multiplies fastest",
  },
} as const satisfies SettingRows;

export type ExportSettings = SettingsOf<typeof ROWS>;

export const command: Command<typeof ROWS> = {
  name: "export",
  usage: "revmoe export --model RUN --output-dir FOLDER [--setting value ...]",
  example: "revmoe export --model runs/first --output-dir first-bf16 --dtype bfloat16 --validation-file held-out.jsonl",
  settings: {
    rows: ROWS,
    elsewhere: {
      overwrite: "Use overwrite_output_dir.",
      fused: "Use layout: fused.",
      max_shard_size: "Use max_shard_bytes.",
      torch_dtype: "Use dtype.",
    },
    check: checkLoss,
  },
  json: true,
  load: () => import("./run/export.js"),
};

/** Refuses settings of the held-out loss without rows to measure it on. */
function checkLoss({ validation_file: file }: ExportSettings, at: Given): string | undefined {
  const idle = file ? undefined : ["device", "threads", "compute_dtype"].find((name) => at.has(name));
  if (idle === undefined) return undefined;
  return `${at.subject(idle)} has no effect: it is for the held-out loss. Remove ${idle}, or give validation_file.`;
}
