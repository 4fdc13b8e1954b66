// The reader of GGUF files: headers with wrong bytes, and well-formed headers with absurd values.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { openSource } from "../checkpoint/source.js";
import { readArchitecture } from "../families/registry.js";
import { placedParameters } from "../model/model.js";
import { scope } from "../torch/scope.js";
import { numel } from "../torch/tensor.js";
import { readDenseModel } from "../upcycle/dense.js";
import { mutateBytes } from "./mutate-bytes.js";
import type { Random } from "./random.js";
import { type Reader, readRepositoryFile } from "./reader.js";

const FILES = [
  "bpe",
  "dense-llama",
  "dense-qwen2",
  "dense-qwen3",
  "mixtral-window",
  "olmoe-plain",
  "qwen3-plain",
  "spm",
  "types",
];
/** What follows is mostly weights, in which any bits are valid. */
const HEAD_BYTES = 6000;
const TENSORS_READ = 20;

const NUMBERS = [0, 1, 2, 3, 1e6, 1e7, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
const UINT32 = 4;

/** Sets uint32 values of metadata to other numbers; they are found by the type before them. */
function mutateNumbers(seed: Uint8Array, random: Random): Uint8Array {
  const bytes = Buffer.from(seed);
  const places: number[] = [];
  for (let at = 24; at + 8 < Math.min(bytes.length, HEAD_BYTES); at++) {
    const letterBefore = /[a-z_]/.test(String.fromCharCode(bytes[at - 1]));
    if (letterBefore && bytes.readUInt32LE(at) === UINT32) places.push(at + 4);
  }
  for (let left = random.few(); left > 0 && places.length > 0; left--)
    bytes.writeUInt32LE(random.pick(NUMBERS), random.pick(places));
  return bytes;
}

export const ggufReader: Reader = {
  name: "gguf",
  seeds: () => FILES.map((name) => readRepositoryFile(`test/golden/gguf/${name}.gguf`)),
  mutate: (seed, random) => (random.oneIn(3) ? mutateNumbers(seed, random) : mutateBytes(seed, random, HEAD_BYTES)),
  open: (folder) => (input) => {
    const path = join(folder, "model.gguf");
    writeFileSync(path, input);
    const source = openSource(path);
    for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json"]) source.readFile(name);
    const weights = source.openWeights();
    try {
      for (const name of [...weights.tensors.keys()].slice(0, TENSORS_READ))
        scope(() => void numel(weights.read(name)));
    } finally {
      weights.close();
    }
    const { config, configPath } = source;
    if (["llama", "qwen2", "qwen3"].includes(String(config.model_type))) {
      placedParameters(readDenseModel({ config, configPath }).architecture);
    } else {
      placedParameters(readArchitecture(config, configPath));
    }
  },
};
