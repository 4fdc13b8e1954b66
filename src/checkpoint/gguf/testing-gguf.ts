// For the tests of this folder: GGUF files made from parts, right or wrong, and the places of the golden ones.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import type { MetadataValue } from "./header.js";

export const GOLDEN = fileURLToPath(new URL("../../../test/golden", import.meta.url));
export const golden = (name: string): string => `${GOLDEN}/gguf/${name}`;

export interface RawTensor {
  name: string;
  /** As in the file: the fastest dimension first. */
  dimensions: number[];
  type: number;
  data: Uint8Array;
  /** Its place according to the header; by default right after the tensor before. */
  offset?: number;
}

export interface RawFile {
  magic?: string;
  version?: number;
  metadata?: Record<string, MetadataValue>;
  tensors?: RawTensor[];
  alignment?: number;
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

/** Whole numbers as uint32, others as float64. */
function value(given: MetadataValue): Buffer {
  if (Array.isArray(given)) {
    const parts = (given as (string | number | boolean)[]).map(value);
    return Buffer.concat([
      u32(9),
      (parts[0] ?? u32(4)).subarray(0, 4),
      u64(parts.length),
      ...parts.map((part) => part.subarray(4)),
    ]);
  }
  if (typeof given === "string") return Buffer.concat([u32(8), text(given)]);
  if (typeof given === "boolean") return Buffer.concat([u32(7), Buffer.from([given ? 1 : 0])]);
  if (Number.isInteger(given) && given >= 0) return Buffer.concat([u32(4), u32(given)]);
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(given);
  return Buffer.concat([u32(12), bytes]);
}

export function writeGguf(
  path: string,
  { magic = "GGUF", version = 3, metadata = {}, tensors = [], alignment = 32 }: RawFile,
): void {
  const padded = (bytes: Uint8Array): Buffer =>
    Buffer.concat([bytes, Buffer.alloc((alignment - (bytes.length % alignment)) % alignment)]);
  const head = [Buffer.from(magic), u32(version), u64(tensors.length), u64(Object.keys(metadata).length)];
  for (const [key, given] of Object.entries(metadata)) head.push(text(key), value(given));
  let next = 0;
  for (const { name, dimensions, type, data, offset = next } of tensors) {
    head.push(text(name), u32(dimensions.length), ...dimensions.map(u64), u32(type), u64(offset));
    next = offset + padded(data).length;
  }
  writeFileSync(path, Buffer.concat([padded(Buffer.concat(head)), ...tensors.map(({ data }) => padded(data))]));
}

/** A tensor of float32 values in file order. */
export const floats = (name: string, dimensions: number[], values: ArrayLike<number>): RawTensor => ({
  name,
  dimensions,
  type: 0,
  data: new Uint8Array(Float32Array.from(values).buffer),
});

/** A tiny dense llama, with the embedding as its only tensor. */
export const LLAMA: Record<string, MetadataValue> = {
  "general.architecture": "llama",
  "llama.block_count": 1,
  "llama.context_length": 64,
  "llama.embedding_length": 8,
  "llama.feed_forward_length": 16,
  "llama.attention.head_count": 2,
  "llama.attention.layer_norm_rms_epsilon": 1e-5,
};
export const EMBEDDING: RawTensor = floats("token_embd.weight", [8, 3], new Float32Array(24));
