// What a model is read from, whatever holds it: its settings, its tokenizer's files and its weights. How each is opened is in
// source.ts and gguf/open.ts.
import type { Tensor } from "../torch/tensor.js";
import type { TensorEntry } from "./safetensors/header.js";

/** The files beside the weights, by the names they have in a Hugging Face folder. */
export interface ModelFiles {
  /** As the person gave it, for errors. */
  path: string;
  /** The bytes of the file `name`, undefined where there is none. */
  readFile(name: string): Uint8Array | undefined;
  /** Where the file `name` is, when it is a link that leaves the model's folder: it is read, but no copy of it is saved. */
  outside?(name: string): string | undefined;
  /** Names of the files in a folder beside them; none where there is no such folder, or nothing but single files. */
  list?(folder: string): string[];
}

export type StoredTensor = Pick<TensorEntry, "dtype" | "shape" | "eightBits">;

/** One set of named tensors, whatever files they lie in. */
export interface Folder {
  /** What errors about the weights name. */
  dir: string;
  /** The dtype is what a tensor is kept in unless another is asked for: what is decoded may be wider when it is read. */
  tensors: Map<string, StoredTensor>;
  /** A tensor for the caller's scope, see `SafetensorsFile.read`. */
  read(name: string): Tensor;
  /** The part of such a tensor at `index` of its first dimension, where that takes less than reading all of it. */
  readOne?(name: string, index: number): Tensor;
  /** The same as it lies on disk, where tensors here are decoded; closed with this. */
  packed?: Folder;
  close(): void;
}

/** A model: these files, its config.json and its weights. */
export interface ModelSource extends ModelFiles {
  /** config.json, parsed. */
  config: Record<string, unknown>;
  /** What errors about `config` name. */
  configPath: string;
  /** What is to be said of weights that are decoded. */
  decoding?: string;
  /** The weights under their Hugging Face names; the caller closes them. */
  openWeights(): Folder;
}

/** What a folder may hold beside config.json and weights. */
export const COPIED_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
  "generation_config.json",
  "vocab.json",
  "merges.txt",
  "vocab.txt",
  "tokenizer.model",
];
