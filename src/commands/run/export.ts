// `revmoe export`: writes a run's result as a Hugging Face folder, in the layout, dtype and shards asked for: as the
// ordinary network of its weights, or as the trained network with the code that transformers needs for it. Any other
// checkpoint folder can be rewritten in the same way. It reports success after everything was compared.
import { readdirSync } from "node:fs";
import { UserError } from "../../errors.js";
import { formatBytes, parseBytes } from "../../format.js";
import type { CommandInput } from "../command.js";
import { resolveSources } from "../../hub/datasets.js";
import { resolveModel } from "../../hub/resolve.js";
import { exportFolder } from "../../checkpoint/export.js";
import { findModel } from "../../checkpoint/run/find-model.js";
import { ORDINARY, couplingOf, extensionOf, readNetworkFile, writeNetworkFile } from "../../network/description.js";
import { heldOutBatches, lossOf } from "../../eval/held-out.js";
import { setThreads, useDevice } from "../../torch/device.js";
import type { ROWS, ExportSettings } from "../export.js";

export async function run({ settings, json, out, err }: CommandInput<typeof ROWS>): Promise<number> {
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

  const loss = file
    ? await makeLoss(
        { ...settings, validation_file: await resolveSources(file, "validation_file", { out: err }) },
        folder,
        run,
      )
    : null;
  const trainedLoss = loss?.(folder, "auto") ?? null;
  const trained = asTrained && {
    network: description,
    extend: extensionOf(description),
    extraFiles: (side: string) => writeNetworkFile(side, description),
  };
  const maxShardBytes = parseBytes(settings.max_shard_bytes) as number;
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
    `wrote ${dir}: ${tensors} tensors, ${layout}, ${settings.dtype === "mxfp4" ? `MXFP4 and ${dtype}` : dtype}, ${formatBytes(bytes)} in ${files} file${files > 1 ? "s" : ""}; ` +
      "reopened, and every tensor is the same bit for bit",
  );
  if (asTrained) say("transformers loads it with AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)");
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
}

/**
 * Some couplings' functions are far from the ordinary network's; for those, the ordinary network is not the result and
 * must be asked for with rows.
 */
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
  const batches = await heldOutBatches(file, folder, run);
  return (of, as) => lossOf(of, batches, { as, device, computeDtype });
}

function describeLoss(trained: number, exported: number, name: string): string {
  const percent = (100 * (exported - trained)) / trained;
  return (
    `held-out loss: ${trained.toFixed(4)} as trained (${name}), ${exported.toFixed(4)} as exported ` +
    `(${percent < 0 ? "" : "+"}${percent.toFixed(2)} %)`
  );
}
