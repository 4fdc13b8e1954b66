// `revmoe export`: a run's result as a Hugging Face folder, as the ordinary network of its weights or, with the code that
// transformers needs for it, as the network that was trained, in the layout, dtype and shards asked for; any other
// checkpoint folder can be laid out anew the same way. Success is reported after everything was compared.
import { readdirSync } from "node:fs";

import { UserError } from "../errors.js";
import { formatBytes } from "../format.js";
import { TRAIN_ROWS } from "../train/settings/rows.js";
import type { Given, SettingRows, SettingsOf } from "../settings/table.js";
import type { Command } from "./command.js";
import { resolveModel } from "../hub/resolve.js";
import { exportFolder } from "../checkpoint/export.js";
import { findModel } from "../checkpoint/run/find-model.js";
import { ORDINARY, couplingOf, extensionOf, readNetworkFile, writeNetworkFile } from "../network/description.js";
import { heldOutBatches, lossOf } from "../eval/held-out.js";
import { setThreads, useDevice } from "../torch/device.js";

const WHAT = "What is exported";
const FORM = "Form of the result";
const LOSS = "Held-out loss";

const ROWS = {
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
      "ordinary: write the ordinary network, even where it is another function than was trained; trained: write that one, " +
      "with the code by which transformers loads it (trust_remote_code); auto: the ordinary one where it is near",
  },
  layout: {
    kind: "choice",
    choices: ["per-expert", "fused"],
    default: "per-expert",
    group: FORM,
    about: "one matrix per expert, which every loader reads, or the stacked experts of transformers 5",
  },
  dtype: {
    kind: "choice",
    choices: ["auto", "bfloat16", "float16", "float32"],
    default: "auto",
    group: FORM,
    about: "type of the weights; auto: as they are",
  },
  max_shard_bytes: {
    kind: "string",
    default: "5GB",
    metavar: "SIZE",
    pattern: /^\d+(\.\d+)?([KMGT]i?)?B?$/,
    expected: "a number of bytes, as 5GB, 500MB or 2GiB",
    group: FORM,
    about: "largest file of weights",
  },
  validation_file: {
    kind: "string",
    default: "",
    metavar: "FILE",
    group: LOSS,
    about: "held-out rows: prints the loss as trained and as exported; read with the settings of the run",
  },
  device: { ...TRAIN_ROWS.device, group: LOSS, about: "where to compute the loss: cpu, cuda or cuda:N" },
  threads: { ...TRAIN_ROWS.threads, group: LOSS },
  compute_dtype: {
    ...TRAIN_ROWS.compute_dtype,
    group: LOSS,
    about: "type of the products; auto: what the device multiplies fastest",
  },
} as const satisfies SettingRows;

type ExportSettings = SettingsOf<typeof ROWS>;

export const command: Command<typeof ROWS> = {
  name: "export",
  summary: "Write a run's result as a Hugging Face folder",
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
  run: async ({ settings, json, out, err }) => {
    const { layout, output_dir: dir, validation_file: file, overwrite_output_dir: overwrite } = settings;
    const say = (text: string): void => void (json || out.write(`${text}\n`));
    const { folder, run, newer } = findModel(await resolveModel(settings.model, { out: err }));
    const description = readNetworkFile(folder);
    await refuseOther(folder, settings);
    if (newer) say(`note: ${newer} was saved after ${folder}; give its path to export it instead`);
    const name = couplingOf(description).name;
    const asTrained = settings.as === "trained";
    if (description.coupling === ORDINARY.coupling) say(`exporting ${folder}`);
    else if (asTrained) say(`exporting ${folder} as it was trained: ${name}`);
    else say(`exporting ${folder}, trained as ${name}, as the ordinary network of its weights`);

    const loss = file ? await makeLoss(settings, folder, run) : null;
    const trainedLoss = loss?.(folder, "auto") ?? null;
    const trained = asTrained && {
      network: description,
      extend: extensionOf(description),
      extraFiles: (side: string) => writeNetworkFile(side, description),
    };
    const maxShardBytes = parseBytes(settings.max_shard_bytes);
    const exported = exportFolder(dir, folder, {
      layout,
      dtype: settings.dtype,
      maxShardBytes,
      overwrite,
      trained: trained || undefined,
    });
    const files = readdirSync(dir).filter((each) => each.endsWith(".safetensors")).length;
    const { tensors, bytes, dtype, leftOut, addedKeys, notes } = exported;
    for (const note of notes) say(`note: ${note}`);
    if (leftOut.length > 0) say(`left out, as no parameter of the network: ${leftOut.join(", ")}`);
    if (addedKeys.length > 0) say(`config.json also has ${addedKeys.join(", ")}, which transformers 4 reads`);
    say(
      `wrote ${dir}: ${tensors} tensors, ${layout}, ${dtype}, ${formatBytes(bytes)} in ${files} file${files > 1 ? "s" : ""}; ` +
        "reopened, and every tensor is the same bit for bit",
    );
    if (asTrained)
      say("transformers loads it with AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)");
    const exportedLoss = loss?.(dir, asTrained ? "trained" : "ordinary") ?? null;
    if (trainedLoss !== null && exportedLoss !== null) say(describeLoss(trainedLoss, exportedLoss, name));
    if (json) {
      const record = {
        source: folder,
        folder: dir,
        network: description,
        as: asTrained ? "trained" : "ordinary",
        layout,
        files,
        ...exported,
        trainedLoss,
        exportedLoss,
      };
      out.write(`${JSON.stringify(record, null, 2)}\n`);
    }
    return 0;
  },
};

/** What concerns the loss has no effect without rows to measure it on. */
function checkLoss({ validation_file: file }: ExportSettings, at: Given): string | undefined {
  const idle = file ? undefined : ["device", "threads", "compute_dtype"].find((name) => at.has(name));
  if (idle === undefined) return undefined;
  return `${at.subject(idle)} has no effect: it is for the held-out loss. Remove ${idle}, or give validation_file.`;
}

/** Some couplings make a function of the weights that the ordinary network is not near; of others it is the result. */
async function refuseOther(folder: string, { as, validation_file: file }: ExportSettings): Promise<void> {
  const description = readNetworkFile(folder);
  const { name, conversion, drawsSigns } = couplingOf(description);
  if (as === "trained") {
    if (description.coupling !== "ordinary" && !drawsSigns) return;
    throw new UserError(
      `as: trained is not needed: ${folder} ${drawsSigns ? `was trained as ${name}, of which the ordinary network is the result` : "is an ordinary network"}. ` +
        "Leave --as out.",
    );
  }
  if (conversion !== "different") return;
  if (as === "auto") {
    throw new UserError(
      `${folder}: was trained as ${name}, which is another function of its weights than the ordinary network. ` +
        "Add --as trained, which writes it with the code that transformers needs, or --as ordinary with a --validation-file that shows what is lost.",
    );
  }
  if (!file) {
    throw new UserError(
      `as: the ordinary network is not the one that was trained (${name}), and how much worse it is must be seen. Add --validation-file.`,
    );
  }
}

type Loss = (folder: string, as: "auto" | "trained" | "ordinary") => number;

async function makeLoss(settings: ExportSettings, folder: string, run: string | undefined): Promise<Loss> {
  const { device, threads, compute_dtype: computeDtype, validation_file: file } = settings;
  useDevice(device);
  setThreads(threads);
  const batches = heldOutBatches(file, folder, run);
  return (of, as) => lossOf(of, batches, { as, device, computeDtype });
}

function describeLoss(trained: number, exported: number, name: string): string {
  const percent = (100 * (exported - trained)) / trained;
  return (
    `held-out loss: ${trained.toFixed(4)} as trained (${name}), ${exported.toFixed(4)} as exported ` +
    `(${percent < 0 ? "" : "+"}${percent.toFixed(2)} %)`
  );
}

/** "5GB" -> 5e9, "2GiB" -> 2 ** 31. */
function parseBytes(size: string): number {
  const [, amount, unit = ""] = /^([\d.]+)([KMGT]?i?)/.exec(size) as RegExpExecArray;
  return Number(amount) * (unit.endsWith("i") ? 1024 : 1000) ** " KMGT".indexOf(unit.charAt(0) || " ");
}
