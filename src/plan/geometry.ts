// What a plan has to know of a model, from as little as there is: a folder with weights says how each is stored; a config.json
// by itself is believed. No weights are read.
import { readConfigFile } from "../checkpoint/folder.js";
import { statedDtype } from "../checkpoint/config-text.js";
import { commonDtype, dtypeOnDisk, matchTensors } from "../checkpoint/load.js";
import { fullName } from "../checkpoint/layout.js";
import { openSource } from "../checkpoint/source.js";
import { withAddedTokens } from "../train/files/added-tokens.js";
import { statOf } from "../read-file.js";
import { readArchitecture } from "../families/registry.js";
import type { TrainSettings } from "../train/settings/settings.js";
import type { Geometry } from "./shadow-step.js";

/** The geometry at `model`: a folder, a .gguf file, or a config.json. Throws a UserError when it is none of them. */
export function readGeometry(
  settings: Pick<TrainSettings, "model" | "weights_dtype" | "add_tokens" | "add_special_tokens">,
): Geometry {
  const { model, weights_dtype: wanted, add_tokens, add_special_tokens } = settings;
  const isFile = statOf(model)?.isFile() === true;
  if (isFile && model.endsWith(".json")) {
    const { config, path } = readConfigFile(model);
    // Without a tokenizer nobody knows of rows to spare.
    const more = add_tokens.length + add_special_tokens.length;
    const source = more === 0 ? config : { ...config, vocab_size: Number(config.vocab_size) + more };
    const architecture = readArchitecture(source, path);
    const dtype = wanted === "auto" ? statedDtype(source) : wanted;
    return { architecture, dtypeOf: () => dtype };
  }
  const { source } = withAddedTokens(openSource(model), settings);
  const architecture = readArchitecture(source.config, source.configPath);
  if (wanted !== "auto") return { architecture, dtypeOf: () => wanted };
  const folder = source.openWeights();
  try {
    const matched = matchTensors(folder, architecture);
    const common = commonDtype(folder);
    return {
      architecture,
      dtypeOf: (placed) => {
        const pieces = matched.get(fullName(placed));
        // What the weights lack, adapters, is as they all are.
        return pieces ? dtypeOnDisk(folder, pieces) : common;
      },
    };
  } finally {
    folder.close();
  }
}
