// What a plan has to know of a model, from as little as there is: a folder with weights says how each is stored; a config.json
// by itself is believed. No weights are read.
import { statSync } from "node:fs";

import { readJsonObject } from "../checkpoint/folder.js";
import { matchTensors } from "../checkpoint/load.js";
import { fullName } from "../checkpoint/layout.js";
import { openSource } from "../checkpoint/source.js";
import { architectureOf } from "../model/architecture.js";
import type { DType } from "../torch/tensor.js";
import type { TrainSettings } from "../train/settings.js";
import type { Geometry } from "./shadow-step.js";

/** The geometry at `model`: a folder, a .gguf file, or a config.json. Throws a UserError when it is none of them. */
export function readGeometry({ model, weights_dtype: wanted }: Pick<TrainSettings, "model" | "weights_dtype">): Geometry {
  const isFile = statSync(model, { throwIfNoEntry: false })?.isFile() === true;
  if (isFile && model.endsWith(".json")) {
    const source = readJsonObject(model);
    const architecture = architectureOf(source, model);
    const stored: DType = (source.dtype ?? source.torch_dtype) === "bfloat16" ? "bfloat16" : "float32";
    return { architecture, config: architecture.readConfig(source, model), dtypeOf: () => (wanted === "auto" ? stored : wanted) };
  }
  const source = openSource(model);
  const architecture = architectureOf(source.config, source.configPath);
  const config = architecture.readConfig(source.config, source.configPath);
  if (wanted !== "auto") return { architecture, config, dtypeOf: () => wanted };
  const folder = source.openWeights();
  try {
    const matched = matchTensors(folder, architecture, config);
    const isBfloat16 = (name: string): boolean => folder.tensors.get(name)?.dtype === "bfloat16";
    const common = [...folder.tensors.keys()].every(isBfloat16);
    return {
      architecture,
      config,
      // As `loadModel`: bfloat16 where all of a parameter is; what the weights lack (adapters) as they all are.
      dtypeOf: (placed) => ((matched.get(fullName(placed))?.every(({ name }) => isBfloat16(name)) ?? common) ? "bfloat16" : "float32"),
    };
  } finally {
    folder.close();
  }
}
