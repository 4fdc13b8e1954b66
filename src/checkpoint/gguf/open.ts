// A .gguf file as a model's source: config.json and the tokenizer's files are made from its metadata, and its weights
// have their Hugging Face names. Quantised weights become float32 when they are read, one tensor or one expert at a
// time: float32 holds every value of a block, bfloat16 does not. Several files of one model (-00001-of-0000N) count as
// one.
import { existsSync } from "node:fs";

import { assert, UserError } from "../../errors.js";
import { contiguous, reshape, transpose } from "../../torch/ops.js";
import { free, keep, scope } from "../../torch/scope.js";
import { mapFile, type Tensor } from "../../torch/tensor.js";
import { jsonText } from "../config-text.js";
import { readEntry } from "../safetensors/file.js";
import type { Folder, ModelSource } from "../model-files.js";
import { readGgufConfig } from "./config.js";
import { dequantize } from "./dequantize.js";
import { type GgufHeader, readHeader } from "./header.js";
import { type NamedPiece, type Naming, namePieces } from "./names.js";
import { tokenizerFiles } from "./tokenizer.js";

/** The model in the file at `path`. Errors: UserError when the file is damaged, or holds what we cannot read. */
export function openGguf(path: string): ModelSource {
  const header = withOtherParts(readHeader(path));
  const { config, naming } = readGgufConfig(header);
  let tokenizer: Record<string, object> | undefined;
  return {
    path,
    config,
    configPath: path,
    readFile: (name) => {
      const content = name === "config.json" ? config : (tokenizer ??= tokenizerFiles(header.metadata, path))[name];
      return content && Buffer.from(jsonText(content));
    },
    openWeights: () => openTensors(header, naming),
  };
}

/** The first of several files, with the tensors of all of them. */
function withOtherParts(first: GgufHeader): GgufHeader {
  const { path, metadata } = first;
  const { "split.count": count = 1, "split.no": number = 0 } = metadata as Record<string, number>;
  if (count <= 1) return first;
  const named = /^(.*)-00001-of-(\d{5})(\.gguf)$/i.exec(path);
  if (number !== 0 || !named || Number(named[2]) !== count) {
    throw new UserError(
      `${path}: is one of ${count} files of a model (expected the first, whose name ends in -00001-of-${pad(count)}.gguf).`,
    );
  }
  const tensors = new Map(first.tensors);
  for (let part = 2; part <= count; part++) {
    const partPath = `${named[1]}-${pad(part)}-of-${named[2]}${named[3]}`;
    if (!existsSync(partPath))
      throw new UserError(`${path}: its part ${partPath} is missing. Download it into the same folder.`);
    for (const [name, tensor] of readHeader(partPath).tensors) tensors.set(name, tensor);
  }
  const stated = metadata["split.tensors.count"];
  if (stated !== undefined && stated !== tensors.size) {
    throw new UserError(
      `${path}: its ${count} files have ${tensors.size} tensors together (expected ${String(stated)}). Download them again.`,
    );
  }
  return { path, metadata, tensors };
}

const pad = (part: number): string => String(part).padStart(5, "0");

function openTensors({ path, tensors }: GgufHeader, naming: Naming): Folder {
  const pieces = new Map(
    [...tensors.values()].flatMap((tensor) => namePieces(tensor, naming)).map((piece) => [piece.name, piece]),
  );
  const bytes = new Map<string, number>();
  for (const { path: file, end } of tensors.values()) bytes.set(file, Math.max(end, bytes.get(file) ?? 1));
  const mappings = new Map([...bytes].map(([file, needed]) => [file, keep(mapFile(file, needed))]));
  return {
    dir: path,
    tensors: new Map(
      [...pieces].map(([name, { source, shape }]) => [name, { dtype: source.type.plain ?? "float32", shape }]),
    ),
    read: (name) => {
      const piece = pieces.get(name);
      assert(piece, `${path} has no tensor ${name}`);
      return scope(() => restoreHeads(readPiece(mappings.get(piece.source.path) as Tensor, piece), piece));
    },
    close: () => free(...mappings.values()),
  };
}

function readPiece(mapping: Tensor, { source, shape, expert, name }: NamedPiece): Tensor {
  const bytes = (source.end - source.begin) / (expert === null ? 1 : source.shape[0]);
  const begin = source.begin + (expert ?? 0) * bytes;
  const { plain } = source.type;
  const end = begin + bytes;
  return plain
    ? readEntry(mapping, { name, dtype: plain, shape, begin, end })
    : dequantize(mapping, { begin, end }, source.type, shape);
}

/**
 * llama.cpp rotates neighbouring features of a head, transformers those half a head apart. So the converter moves row t
 * * C/2 + j of each head to 2 j + t (`permute` in its LlamaModel). This moves rows back.
 */
function restoreHeads(stored: Tensor, { shape: [rows, ...rest], interleavedHeads: heads }: NamedPiece): Tensor {
  if (heads === 0) return stored;
  return reshape(contiguous(transpose(reshape(stored, [heads, rows / heads / 2, 2, ...rest]), 1, 2)), [rows, ...rest]);
}
