// Readers of files with tensors: safetensors and its index, whole model folders, the optimizer's state, and the undo
// log with which a working copy returns to a complete step.
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { openFolder } from "../checkpoint/folder.js";
import { loadModel } from "../checkpoint/load.js";
import { readSavedRun } from "../checkpoint/run/state.js";
import { openSafetensors } from "../checkpoint/safetensors/file.js";
import { freeModel } from "../model/model.js";
import { rollBack, UNDO_FILE } from "../store/disk/undo-log.js";
import { scope } from "../torch/scope.js";
import { numel } from "../torch/tensor.js";
import { mutateBytes } from "./mutate-bytes.js";
import { mutateJson } from "./mutate-json.js";
import type { Random } from "./random.js";
import { bytesOf, type Reader, readRepositoryFile, repositoryFile, textOf } from "./reader.js";

const HEAD_BYTES = 8;

/** A safetensors file of zeros. */
function safetensors(tensors: Record<string, { dtype: string; shape: number[]; bytes: number }>): Uint8Array {
  let end = 0;
  const header = Object.entries(tensors).map(([name, { dtype, shape, bytes }]) => [
    name,
    { dtype, shape, data_offsets: [end, (end += bytes)] },
  ]);
  return withHeader(bytesOf(Object.fromEntries(header)), new Uint8Array(end));
}

function withHeader(header: Uint8Array, data: Uint8Array): Uint8Array {
  const length = Buffer.alloc(HEAD_BYTES);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, data]);
}

const headerEnd = (file: Uint8Array): number => HEAD_BYTES + Number(Buffer.from(file).readBigUInt64LE());

/** Half of the time only the JSON of the header is wrong, and its length is right. */
function mutateSafetensors(seed: Uint8Array, random: Random): Uint8Array {
  const end = headerEnd(seed);
  if (random.oneIn(2)) return mutateBytes(seed, random, end);
  return withHeader(
    mutateJson(seed.subarray(HEAD_BYTES, end), random, [
      "F32",
      "BF16",
      "I64",
      "BOOL",
      "U8",
      "F8_E4M3",
      "F8_E8M0",
      "F8_E5M2",
    ]),
    seed.subarray(end),
  );
}

const SMALL = {
  a: { dtype: "F32", shape: [2, 3], bytes: 24 },
  "b.weight": { dtype: "BF16", shape: [4], bytes: 8 },
  c: { dtype: "I64", shape: [], bytes: 8 },
  d: { dtype: "F32", shape: [0, 5], bytes: 0 },
};

export const safetensorsReader: Reader = {
  name: "safetensors",
  seeds: () => [
    safetensors(SMALL),
    safetensors({}),
    safetensors({ x: { dtype: "U8", shape: [3], bytes: 3 }, y: { dtype: "F16", shape: [1], bytes: 2 } }),
  ],
  mutate: mutateSafetensors,
  open: (folder) => (input) => {
    writeFileSync(join(folder, "model.safetensors"), input);
    const file = openSafetensors(join(folder, "model.safetensors"));
    try {
      for (const name of file.entries.keys()) scope(() => void numel(file.read(name)));
    } finally {
      file.close();
    }
  },
};

export const indexReader: Reader = {
  name: "index of shards",
  seeds: () => [
    bytesOf({
      metadata: { total_size: 40 },
      weight_map: { a: "one.safetensors", "b.weight": "one.safetensors", c: "one.safetensors" },
    }),
  ],
  mutate: (seed, random) =>
    mutateJson(seed, random, ["one.safetensors", "./one.safetensors", "..", ".", "two/one.safetensors"]),
  open: (folder) => {
    writeFileSync(join(folder, "one.safetensors"), safetensors(SMALL));
    return (input) => {
      writeFileSync(join(folder, "model.safetensors.index.json"), input);
      openFolder(folder).close();
    };
  },
};

const FOLDERS = [
  "hf-tiny",
  "mixtral-plain",
  "olmoe-plain",
  "qwen3-plain",
  "deepseek3-fp8",
  "glmlite-types",
  "gptoss-heads",
];

/** Input: the name of a folder, a zero byte, then config.json; weights are those of the folder. */
export const modelReader: Reader = {
  name: "model folder by config.json",
  share: 0.5,
  seeds: () =>
    FOLDERS.map((name) =>
      Buffer.concat([Buffer.from(`${name}\0`), readRepositoryFile(`test/golden/${name}/config.json`)]),
    ),
  mutate: (seed, random) => {
    const cut = seed.indexOf(0) + 1;
    return Buffer.concat([seed.subarray(0, cut), mutateJson(seed.subarray(cut), random)]);
  },
  open: (folder) => (input) => {
    const cut = input.indexOf(0);
    const name = textOf(input.subarray(0, cut));
    if (!FOLDERS.includes(name)) return;
    copyFileSync(repositoryFile(`test/golden/${name}/model.safetensors`), join(folder, "model.safetensors"));
    writeFileSync(join(folder, "config.json"), input.subarray(cut + 1));
    freeModel(loadModel(folder, { weightsDtype: "auto", device: "cpu" }));
  },
};

const byWeights = (name: string, golden: string): Reader => ({
  name,
  share: 0.5,
  seeds: () => [readRepositoryFile(`test/golden/${golden}/model.safetensors`)],
  mutate: mutateSafetensors,
  open: (folder) => {
    copyFileSync(repositoryFile(`test/golden/${golden}/config.json`), join(folder, "config.json"));
    return (input) => {
      writeFileSync(join(folder, "model.safetensors"), input);
      freeModel(loadModel(folder, { weightsDtype: "auto", device: "cpu" }));
    };
  },
});

export const weightsReader = byWeights("model folder by weights", "qwen3-plain");
export const quantisedReader = byWeights("quantised folder by weights", "deepseek3-fp8");
export const packedReader = byWeights("packed experts by weights", "gptoss-mxfp4");

export const optimizerReader: Reader = {
  name: "optimizer.safetensors",
  seeds: () => [safetensors(SMALL), safetensors({})],
  mutate: mutateSafetensors,
  open: (folder) => {
    writeFileSync(
      join(folder, "trainer_state.json"),
      bytesOf({ version: 1, step: 3, batches: { epoch: 0, position: 3 }, settings: {}, generators: null }),
    );
    return (input) => {
      writeFileSync(join(folder, "optimizer.safetensors"), input);
      readSavedRun(folder).restore([]);
    };
  },
};

const FRAME_BYTES = 512;
const frame = (content: object): Buffer => Buffer.from(JSON.stringify(content).padEnd(FRAME_BYTES));

export const undoLogReader: Reader = {
  name: "undo log",
  seeds: () => [
    Buffer.concat(
      [1, 2].flatMap((part) => [
        frame({ step: 4, file: `part-${part}`, bytes: 64 }),
        Buffer.alloc(64, part),
        frame({ complete: true }),
      ]),
    ),
    Buffer.concat([frame({ step: 4, file: "part-1", bytes: 8 }), Buffer.alloc(8), frame({})]),
  ],
  mutate: (seed, random) => {
    if (random.oneIn(2)) return mutateBytes(seed, random);
    // A header that is JSON of full width, with other values.
    const head = Buffer.from(
      mutateJson(Buffer.from(textOf(seed.subarray(0, FRAME_BYTES)).trim()), random, ["part-1", "undo.log", "."]),
    );
    return Buffer.concat([
      Buffer.from(head.toString("latin1").padEnd(FRAME_BYTES), "latin1").subarray(0, FRAME_BYTES),
      seed.subarray(FRAME_BYTES),
    ]);
  },
  open: (folder) => (input) => {
    for (const part of ["part-1", "part-2"]) writeFileSync(join(folder, part), new Uint8Array(64));
    writeFileSync(join(folder, UNDO_FILE), input);
    rollBack(folder, 3);
  },
};
