// The element types of GGUF: which of them we read, and how long a block of each is. Numbers and block sizes agree with
// `GGMLQuantizationType` and `GGML_QUANT_SIZES` of gguf-py 0.19.
import type { DType } from "../../torch/tensor.js";

export interface BlockType {
  name: string;
  /** Elements and bytes of a block; a row is a whole number of blocks. */
  elements: number;
  bytes: number;
  /** The dtype of a type that is not quantised. */
  plain?: DType;
}

const plain = (name: string, bytes: number, dtype: DType): BlockType => ({ name, elements: 1, bytes, plain: dtype });
const block = (name: string, elements: number, bytes: number): BlockType => ({ name, elements, bytes });

/** The types that we read, by number. */
export const TYPES: Record<number, BlockType> = {
  0: plain("F32", 4, "float32"),
  1: plain("F16", 2, "float16"),
  2: block("Q4_0", 32, 18),
  3: block("Q4_1", 32, 20),
  6: block("Q5_0", 32, 22),
  7: block("Q5_1", 32, 24),
  8: block("Q8_0", 32, 34),
  12: block("Q4_K", 256, 144),
  13: block("Q5_K", 256, 176),
  14: block("Q6_K", 256, 210),
  30: plain("BF16", 2, "bfloat16"),
};

/** Names of types that we do not read. */
const OTHERS: Record<number, string> = {
  9: "Q8_1",
  10: "Q2_K",
  11: "Q3_K",
  15: "Q8_K",
  16: "IQ2_XXS",
  17: "IQ2_XS",
  18: "IQ3_XXS",
  19: "IQ1_S",
  20: "IQ4_NL",
  21: "IQ3_S",
  22: "IQ2_S",
  23: "IQ4_XS",
  24: "I8",
  25: "I16",
  26: "I32",
  27: "I64",
  28: "F64",
  29: "IQ1_M",
  34: "TQ1_0",
  35: "TQ2_0",
  39: "MXFP4",
  40: "NVFP4",
};

export const typeName = (type: number): string => TYPES[type]?.name ?? OTHERS[type] ?? `number ${type}`;
