// What a model is read from, in whatever form: its settings, its tokenizer's files and its weights. source.ts and
// gguf/open.ts open them.
import type { Tensor } from "../torch/tensor.js";
import type { TensorEntry } from "./safetensors/header.js";

/** The files beside the weights, by the names they have in a Hugging Face folder. */
export interface ModelFiles {
  /** As the person wrote it, for errors. */
  path: string;
  /** The bytes of a file; undefined if it does not exist. */
  readFile(name: string): Uint8Array | undefined;
  /**
   * The target of a link that leaves the model's folder; such a file is read, but not copied to what is saved. Else
   * undefined.
   */
  outside?(name: string): string | undefined;
  /** Names of the files in a folder beside them; empty if there is none, or if only single files can be read. */
  list?(folder: string): string[];
}

export type StoredTensor = Pick<TensorEntry, "dtype" | "shape" | "eightBits">;

/** One set of named tensors, whatever files they lie in. */
export interface Folder {
  /** The name of the weights in errors. */
  dir: string;
  /**
   * Tensors by name. The dtype is the one to keep a tensor in by default; a decoded tensor may be wider when it is
   * read.
   */
  tensors: Map<string, StoredTensor>;
  /** A tensor for the caller's scope, see `SafetensorsFile.read`. */
  read(name: string): Tensor;
  /** The part of a tensor at `index` of its first dimension, where that takes less than reading the whole. */
  readOne?(name: string, index: number): Tensor;
  /** The same folder as it lies on disk, if tensors here are decoded; closed together with this. */
  packed?: Folder;
  close(): void;
}

/** A model: these files, its config.json and its weights. */
export interface ModelSource extends ModelFiles {
  /** config.json, parsed. */
  config: Record<string, unknown>;
  /** The name of `config` in errors. */
  configPath: string;
  /** A note, if weights are decoded. */
  decoding?: string;
  /** The weights under their Hugging Face names; the caller closes them. */
  openWeights(): Folder;
}

/** Files that a folder may have beside config.json and weights. */
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
