// Readers of a model's settings: config.json as every family reads it, as the plan does, and as a dense model to be
// upcycled; and the small files beside it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { readConfig } from "../checkpoint/folder.js";
import { folderFiles } from "../checkpoint/source.js";
import { loadTokenizer } from "../data/tokenizer/tokenizer.js";
import { findStopIds } from "../generate/stop-ids.js";
import { FAMILIES, readArchitecture } from "../families/registry.js";
import { placedParameters } from "../model/model.js";
import { readGeometry } from "../plan/geometry.js";
import { planStep } from "../plan/plan.js";
import { COUPLING_NAMES } from "../reversible/couplings/registry.js";
import { extensionOf, networkParts, readNetworkFile } from "../network/description.js";
import { resolveSettings } from "../train/settings/settings.js";
import { readDenseModel } from "../upcycle/dense.js";
import { chooseTarget } from "../upcycle/target.js";
import { mutateJson } from "./mutate-json.js";
import { bytesOf, type Reader, readRepositoryFile, repositoryFile } from "./reader.js";

const GOLDEN = "test/golden";
const MODELS = [
  "hf-tiny",
  "hf-tied",
  "mixtral-dynamic",
  "mixtral-yarn",
  "mixtral-window",
  "olmoe-clip",
  "olmoe-short",
  "qwen3-plain",
  "qwen3-wide",
  "granite-tied",
  "glm4-groups",
  "minimax-partial",
  "ernie-alone",
  "deepseek3-groups",
  "deepseek3-fp8",
  "deepseek2-groups",
  "glmlite-types",
  "gptoss-heads",
  "gptoss-mxfp4",
  "next-dense",
  "qwen35-tied",
  "qwen35-seeing",
  "qwen35-fp8",
];
const DENSE = ["llama", "mistral", "qwen2", "qwen3", "qwen3-window", "smollm"];
const configs =
  (names: string[], folder = GOLDEN) =>
  (): Uint8Array[] =>
    names.map((name) => readRepositoryFile(`${folder}/${name}/config.json`));

const HINTS = [
  ...FAMILIES.map(({ modelType }) => modelType),
  ...["default", "linear", "dynamic", "yarn", "longrope", "llama3", "silu", "revmoe_mixtral"],
  ...["sliding_attention", "linear_attention", "full_attention", "noaux_tc", "group_limited_greedy", "fp8", "mxfp4"],
];

export const configReader: Reader = {
  name: "config.json",
  seeds: configs(MODELS),
  mutate: (seed, random) => mutateJson(seed, random, HINTS),
  open: (folder) => (input) => {
    writeFileSync(join(folder, "config.json"), input);
    const { config, path } = readConfig(folder);
    placedParameters(readArchitecture(config, path));
  },
};

export const planReader: Reader = {
  name: "plan of a config.json",
  share: 0.1,
  seeds: configs(MODELS),
  mutate: (seed, random) => mutateJson(seed, random, HINTS),
  open: (folder) => {
    const model = join(folder, "config.json");
    const { settings } = resolveSettings({
      flags: { model, train_file: "-", output_dir: "-", max_length: 64, gamma: -1 },
    });
    return (input) => {
      writeFileSync(model, input);
      planStep(settings, readGeometry(settings));
    };
  },
};

export const denseReader: Reader = {
  name: "config.json to upcycle",
  seeds: configs(DENSE, `${GOLDEN}/dense`),
  mutate: (seed, random) => mutateJson(seed, random, ["llama", "mistral", "qwen2", "qwen3", "sliding_attention"]),
  open: (folder) => (input) => {
    writeFileSync(join(folder, "config.json"), input);
    const { config, path } = readConfig(folder);
    const shape = { numExperts: 8, expertsPerToken: 2, expertWidth: 0, decoderSparseStep: 1 };
    const { architecture } = chooseTarget(readDenseModel({ config, configPath: path }), "auto", shape);
    placedParameters(architecture);
  },
};

export const generationReader: Reader = {
  name: "generation_config.json",
  seeds: () => [bytesOf({ eos_token_id: 2 }), bytesOf({ eos_token_id: [2, 3], bos_token_id: 1 })],
  mutate: mutateJson,
  open: (folder) => {
    const tokenizer = loadTokenizer(repositoryFile("test/golden/letters"));
    return (input) => {
      writeFileSync(join(folder, "generation_config.json"), input);
      findStopIds(folderFiles(folder), tokenizer, { chat: false });
    };
  },
};

export const networkReader: Reader = {
  name: "revmoe.json",
  seeds: () =>
    [
      {
        coupling: "momentum",
        gamma: -1 / 256,
        stream: "int32",
        streamFractionBits: 16,
        blocksPerStep: 2,
        ordinaryFirst: 1,
        ordinaryLast: 1,
      },
      { coupling: "revffn", adapters: "stream", stream: "int64", streamFractionBits: 32 },
      { coupling: "ordinary", stream: "float32" },
    ].map(bytesOf),
  mutate: (seed, random) => mutateJson(seed, random, [...COUPLING_NAMES, "int32", "float32", "layer", "stream"]),
  open: (folder) => {
    const seed = JSON.parse(Buffer.from(readRepositoryFile("test/golden/hf-tiny/config.json")).toString()) as Record<
      string,
      unknown
    >;
    const plain = readArchitecture(seed, "config.json");
    return (input) => {
      writeFileSync(join(folder, "revmoe.json"), input);
      const description = readNetworkFile(folder);
      networkParts(description);
      placedParameters(extensionOf(description)(plain));
    };
  },
};
