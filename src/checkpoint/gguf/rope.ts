// How a GGUF file stretches its rotary embedding: by metadata, or by a tensor of factors, in which llama.cpp stores the
// scaling of Llama 3.1. Returned as `rope_scaling` of config.json.
import { closeSync, readSync } from "node:fs";

import { excerpt, UserError } from "../../errors.js";
import { openForReading } from "../../read-file.js";
import type { ConfigReader } from "../../families/config-reader.js";
import type { GgufHeader, GgufTensor } from "./header.js";
import { ROPE_FACTORS } from "./names.js";

interface Given {
  read: ConfigReader;
  key: (name: string) => string;
  header: GgufHeader;
  theta: number;
  headDim: number;
}

/** Most bytes of the tensor of factors. */
const MOST_BYTES = 1 << 20;
/** Settings of every release with this scaling (Llama 3.1, 3.2 and 3.3); a GGUF file keeps only their result. */
const LLAMA3 = { rope_type: "llama3", low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };

/** `rope_scaling`, or null for none. Errors: UserError for a scaling that is not known here. */
export function readRopeScaling({ read, key, header, theta, headDim }: Given): Record<string, unknown> | null {
  const { tensors, path } = header;
  const factors = tensors.get(ROPE_FACTORS);
  if (factors) return llama3(factors, theta, headDim);
  const long = [...tensors.keys()].find((name) => name.startsWith("rope_factors_"));
  const type = read.source[key("rope.scaling.type")] ?? (read.holds(key("rope.scale_linear")) ? "linear" : "none");
  if (long !== undefined || typeof type !== "string" || !["none", "linear", "yarn"].includes(type)) {
    throw new UserError(
      `${path}: rope scaling ${excerpt(long ?? type)} is not supported (expected none, linear or yarn).`,
    );
  }
  if (type === "none") return null;
  const factor = read.positive(
    key(`rope.${read.holds(key("rope.scaling.factor")) ? "scaling.factor" : "scale_linear"}`),
  );
  if (type === "linear") return { rope_type: "linear", factor };
  for (const name of ["attn_factor", "yarn_attn_factor", "yarn_ext_factor"])
    read.only(key(`rope.scaling.${name}`), [1]);
  read.only(key("rope.scaling.yarn_log_multiplier"), [0]);
  return {
    rope_type: "yarn",
    factor,
    original_max_position_embeddings: read.integer(key("rope.scaling.original_context_length")),
    beta_fast: read.positive(key("rope.scaling.yarn_beta_fast"), 32),
    beta_slow: read.positive(key("rope.scaling.yarn_beta_slow"), 1),
  };
}

/**
 * The llama3 scaling whose divisors of frequencies are in the tensor, as llama.cpp's converter writes them; null if all
 * are 1.
 */
function llama3(tensor: GgufTensor, theta: number, headDim: number): Record<string, unknown> | null {
  const found = readFloats(tensor);
  const factor = Math.max(...found);
  if (found.every((each) => each === 1)) return null;
  const { low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: positions } = LLAMA3;
  const fits = found.every((each, i) => {
    const turns = positions / (2 * Math.PI * theta ** ((2 * i) / headDim));
    const kept = Math.min(Math.max((turns - low) / (high - low), 0), 1);
    return Math.abs(each * ((1 - kept) / factor + kept) - 1) < 1e-4;
  });
  if (fits && found.length === headDim / 2) return { ...LLAMA3, factor };
  throw new UserError(
    `${tensor.path}: ${ROPE_FACTORS} is not the scaling of Llama 3.1, the only one that is supported in this form.`,
  );
}

function readFloats({ path, begin, end, type, name }: GgufTensor): number[] {
  if (type.plain !== "float32") throw new UserError(`${path}: ${name} is ${type.name} (expected F32).`);
  if (end - begin > MOST_BYTES)
    throw new UserError(
      `${path}: ${name} has ${end - begin} bytes (expected one number for each pair of a head's features).`,
    );
  const bytes = Buffer.alloc(end - begin);
  const file = openForReading(path);
  try {
    readSync(file, bytes, 0, bytes.length, begin);
  } finally {
    closeSync(file);
  }
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
}
