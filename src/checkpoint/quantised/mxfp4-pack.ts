// Weights to MXFP4 (see mxfp4.ts) by the rule of its standard: the largest value of a block gets the exponent of 4 or
// 6, values are rounded to the nearest, ties to even fractions, and values beyond 6 become 6. Values that MXFP4 can
// hold stay the same; their bytes do, too, if each block has a 4 or a 6.
import { UserError } from "../../errors.js";
import {
  abs,
  add,
  addScalar,
  amax,
  cast,
  clamp,
  contiguous,
  copy_,
  floorDivide,
  lt,
  mul,
  mulScalar,
  narrow,
  reshape,
  round_,
  select,
  transpose,
  unsqueeze,
  viewDtype,
} from "../../torch/ops.js";
import { forEachTile } from "../../torch/repeat.js";
import { scope } from "../../torch/scope.js";
import { empty, full, shape, type Tensor } from "../../torch/tensor.js";
import type { TensorSource } from "../safetensors/writer.js";
import { lookUp } from "./look-up.js";
import { BLOCK_BYTES, BLOCKS, SCALES } from "./mxfp4.js";

const BLOCK = 2 * BLOCK_BYTES;
/** About how many elements are packed at once; temporaries take fifteen times their float32. */
const TILE = 2 ** 18;
/** 1 / the power of two of each scale. */
const INVERSES = Array.from({ length: 256 }, (_, byte) => 2 ** (127 - byte));

/** The entry of config.json for weights with packed experts. */
export const QUANTIZATION_CONFIG = {
  quant_method: "mxfp4",
  modules_to_not_convert: ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
};

/**
 * NAME_blocks and NAME_scales of a stack [experts, in, out]; `read` gives one expert's matrix. Each is made when it is
 * read.
 */
export function packedSources(
  name: string,
  [experts, columns, rows]: number[],
  read: (expert: number) => Tensor,
): TensorSource[] {
  if (columns % BLOCK !== 0) {
    throw new UserError(
      `dtype: mxfp4 has blocks of ${BLOCK} values, which ${columns} columns of ${name} are not made of. Use bfloat16.`,
    );
  }
  const grid = [rows, columns / BLOCK];
  const source = (part: keyof Packed, ending: string, sizes: number[]): TensorSource => ({
    ...{ name: name + ending, shape: [experts, ...sizes], dtype: "uint8" },
    read: () => {
      const stack = empty([experts, ...sizes], "uint8");
      for (let expert = 0; expert < experts; expert++)
        scope(() => void copy_(select(stack, 0, expert), pack(transpose(read(expert), 0, 1))[part]));
      return stack;
    },
  });
  return [source("blocks_RGB", BLOCKS, [...grid, BLOCK_BYTES]), source("scales_RG", SCALES, grid)];
}

interface Packed {
  blocks_RGB: Tensor;
  scales_RG: Tensor;
}

/** Packs a finite matrix in blocks of its rows, a few rows at a time; for the caller's scope. */
export function pack(values_RC: Tensor): Packed {
  const [rows, columns] = shape(values_RC);
  const blocks_RGB = empty([rows, columns / BLOCK, BLOCK_BYTES], "uint8");
  const scales_RG = empty([rows, columns / BLOCK], "uint8");
  forEachTile(rows, Math.max(1, Math.floor(TILE / columns)), (first, count) =>
    scope(() => {
      const packed = packRows(narrow(values_RC, 0, first, count));
      copy_(narrow(blocks_RGB, 0, first, count), packed.blocks_RGB);
      copy_(narrow(scales_RG, 0, first, count), packed.scales_RG);
    }),
  );
  return { blocks_RGB, scales_RG };
}

function packRows(values_RC: Tensor): Packed {
  return scope(() => {
    const [rows, columns] = shape(values_RC);
    const values_RGV = reshape(contiguous(cast(values_RC, "float32")), [rows, columns / BLOCK, BLOCK]);
    const scales_RG = scope(() => {
      // Bits 23 and above of an absolute value are its exponent plus 127.
      const exponents_RG = floorDivide(viewDtype(amax(abs(values_RGV), [-1]), "int32"), full([], 2 ** 23, "int32"));
      return cast(clamp(addScalar(exponents_RG, -2), 0, 254), "uint8");
    });
    const codes_RGV = scope(() => {
      const sizes_RGV = mul(abs(values_RGV), unsqueeze(lookUp(scales_RG, INVERSES), -1));
      const isNegative_RGV = cast(lt(viewDtype(values_RGV, "int32"), 0), "float32");
      return add(placesOf(sizes_RGV), mulScalar(isNegative_RGV, 8));
    });
    const pairs = reshape(codes_RGV, [rows, columns / BLOCK, BLOCK_BYTES, 2]);
    const [first, second] = [0, 1].map((half) => select(pairs, 3, half));
    return { blocks_RGB: cast(add(first, mulScalar(second, 16)), "uint8"), scales_RG };
  });
}

/**
 * The index of the nearest of 0, 0.5, 1, 1.5, 2, 3, 4, 6: it grows by 2 per unit up to 2, by 1 up to 4, then by 1/2.
 */
function placesOf(sizes: Tensor): Tensor {
  const to2 = mulScalar(clamp(sizes, 0, 2), 2);
  const to4 = clamp(addScalar(sizes, -2), 0, 2);
  const beyond = mulScalar(clamp(addScalar(sizes, -4), 0, null), 0.5);
  return clamp(round_(add(add(to2, to4), beyond)), 0, 7);
}
