// MXFP4 as gpt-oss is released (OCP Microscaling Formats 1.0): experts' matrices in 4-bit floats (a sign, 2 bits of
// exponent, 1 of fraction); 32 of a row share a power of two. NAME_blocks holds two values in a byte, the first in the
// lower half, and NAME_scales the powers; both are [experts, out, ...], while NAME is [experts, in, out] in
// transformers. Every value is exact in bfloat16.
import { UserError } from "../../errors.js";
import { cast, copy_, indexSelect, mul_, reshape, select, transpose, unsqueeze } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { empty, fromArray, shape, type Tensor } from "../../torch/tensor.js";
import type { Folder, StoredTensor } from "../model-files.js";
import { type DecodedTensor, type QuantisedFormat, withDecoded } from "./format.js";
import { EXPONENTS, lookUp } from "./look-up.js";

export const BLOCKS = "_blocks";
export const SCALES = "_scales";
/** Bytes of a block; each holds two values. */
export const BLOCK_BYTES = 16;

/** The absolute values of the eight codes; bit 3 is the sign. */
export const SIZES = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
const numberOf = (bits: number): number => (bits & 8 ? -1 : 1) * SIZES[bits & 7];
const PAIRS = Array.from({ length: 256 }, (_, byte) => [numberOf(byte & 15), numberOf(byte >> 4)]).flat();

export const mxfp4: QuantisedFormat = {
  method: "mxfp4",
  open: () => ({
    words: "MXFP4",
    exactIn: "bfloat16",
    decoded: (packed) => {
      const found = [...packed.tensors.keys()].filter((name) => name.endsWith(BLOCKS));
      const tensors = found.map((name) => decodedTensor(packed, name.slice(0, -BLOCKS.length)));
      return withDecoded(
        packed,
        tensors,
        tensors.flatMap(({ name }) => [name + BLOCKS, name + SCALES]),
      );
    },
  }),
};

function decodedTensor(packed: Folder, name: string): DecodedTensor {
  const [experts, rows, blocks] = checkedSizes(packed, name);
  const columns = 2 * BLOCK_BYTES * blocks;
  const readOne = (index: number): Tensor => {
    const [bytes_RGB, scales_RG] = [BLOCKS, SCALES].map((part) => select(packed.read(name + part), 0, index));
    return transpose(decodeMatrix(bytes_RGB, scales_RG), 0, 1);
  };
  const read = (): Tensor => {
    const decoded = empty([experts, columns, rows], "bfloat16");
    for (let index = 0; index < experts; index++) scope(() => void copy_(select(decoded, 0, index), readOne(index)));
    return decoded;
  };
  return { name, shape: [experts, columns, rows], dtype: "bfloat16", read, readOne };
}

/** Numbers of experts, rows, and blocks of a row. */
function checkedSizes(packed: Folder, name: string): number[] {
  const blocks = packed.tensors.get(name + BLOCKS) as StoredTensor;
  const scales = packed.tensors.get(name + SCALES);
  const sizes = blocks.shape.slice(0, -1);
  const isFit = blocks.dtype === "uint8" && blocks.shape.length === 4 && blocks.shape[3] === BLOCK_BYTES;
  if (!isFit) refuse(packed, name + BLOCKS, blocks, `uint8 of shape [experts, rows, blocks, ${BLOCK_BYTES}]`);
  if (scales?.dtype !== "uint8" || scales.shape.join() !== sizes.join())
    refuse(packed, name + SCALES, scales, `uint8 of shape [${sizes.join(", ")}]`);
  return sizes;
}

function refuse({ dir }: Folder, name: string, found: StoredTensor | undefined, expected: string): never {
  const is = found ? `is ${found.dtype} [${found.shape.join(", ")}]` : "is missing";
  throw new UserError(`${dir}: ${name} ${is} (expected ${expected}, as MXFP4 is). Download it again.`);
}

/** bytes_RGB and scales_RG to bfloat16, with R rows and 2 G B columns. */
function decodeMatrix(bytes_RGB: Tensor, scales_RG: Tensor): Tensor {
  const [rows, blocks, bytes] = shape(bytes_RGB);
  return scope(() => {
    const table = cast(fromArray(PAIRS, [256, 2], "float32"), "bfloat16");
    const values = indexSelect(table, 0, cast(reshape(bytes_RGB, [-1]), "int32"));
    const values_RGV = reshape(values, [rows, blocks, 2 * bytes]);
    return reshape(mul_(values_RGV, cast(unsqueeze(lookUp(scales_RG, EXPONENTS), -1), "bfloat16")), [rows, -1]);
  });
}
