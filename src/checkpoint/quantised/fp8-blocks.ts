// FP8 as DeepSeek-V3 is released: each matrix is float8_e4m3fn, with a factor for every block of it (128 x 128 there)
// in a second tensor. That tensor is called `weight_scale_inv`, but values are multiplied by it. Blocks at the lower
// and right edge may be smaller. Older libtorch has no 8-bit floats, so bytes are looked up in a table; the product is
// in float32, as in transformers.
import { UserError } from "../../errors.js";
import type { ConfigReader } from "../../families/config-reader.js";
import { cast, copy_, expand, indexSelect, mul, narrow, reshape, select, unsqueeze } from "../../torch/ops.js";
import { forEachTile } from "../../torch/repeat.js";
import { scope } from "../../torch/scope.js";
import { dtype, empty, fromArray, shape, type Tensor } from "../../torch/tensor.js";
import type { Folder, StoredTensor } from "../model-files.js";
import { type DecodedTensor, type QuantisedFormat, withDecoded } from "./format.js";
import { EXPONENTS, lookUp } from "./look-up.js";

/** Rows and columns of a block. */
type Block = [rows: number, columns: number];

const SCALE = "_scale_inv";
const NOT_SCALES = new Set(["int64", "int32", "int16", "int8", "bool"]);
/** About how many elements are decoded at once; temporaries take three times their float32. */
const TILE = 2 ** 20;

export const fp8Blocks: QuantisedFormat = {
  method: "fp8",
  open: (read) => {
    const block = readBlock(read);
    read.only("fmt", ["e4m3"]);
    read.only("activation_scheme", ["dynamic"]);
    return {
      words: `FP8 in blocks of ${block.join(" x ")}`,
      decoded: (packed, stated) => {
        const found = [...packed.tensors].filter(([, { eightBits }]) => eightBits === "F8_E4M3");
        const tensors = found.map(([name, { shape }]): DecodedTensor => {
          checkScales(packed, name, shape, block);
          return { name, shape, dtype: stated, read: () => decode(packed.read(name), readScales(packed, name), block) };
        });
        return withDecoded(
          packed,
          tensors,
          found.map(([name]) => name + SCALE),
        );
      },
    };
  },
};

function readBlock(read: ConfigReader): Block {
  const stated = read.source.weight_block_size;
  const fits =
    Array.isArray(stated) && stated.length === 2 && stated.every((each) => Number.isInteger(each) && each > 0);
  if (!fits) read.fail("weight_block_size", "the rows and columns of a block; other scales are not supported");
  return stated as Block;
}

function checkScales(packed: Folder, name: string, shape: number[], [rows, columns]: Block): void {
  const scales: StoredTensor | undefined = packed.tensors.get(name + SCALE);
  if (shape.length < 2)
    throw new UserError(`${packed.dir}: ${name}: is FP8 with ${shape.length} dimensions (expected a matrix).`);
  const [height, width] = shape.slice(-2);
  const grid = [...shape.slice(0, -2), Math.ceil(height / rows), Math.ceil(width / columns)];
  if (scales?.shape.join() === grid.join() && !NOT_SCALES.has(scales.dtype)) return;
  const found = scales ? `is ${scales.dtype} [${scales.shape.join(", ")}]` : "is missing";
  throw new UserError(
    `${packed.dir}: ${name + SCALE} ${found} (expected numbers of shape [${grid.join(", ")}], by weight_block_size of config.json). Download it again.`,
  );
}

/** The scale of each block, in float32. */
function readScales(packed: Folder, name: string): Tensor {
  const stored = packed.read(name + SCALE);
  return dtype(stored) === "uint8" ? lookUp(stored, EXPONENTS) : cast(stored, "float32");
}

/** The float32 matrix of bytes and scales, or a stack of such matrices. */
function decode(bytes: Tensor, scales: Tensor, block: Block): Tensor {
  const sizes = shape(bytes);
  const decoded = empty(sizes, "float32");
  const flat = (t: Tensor): Tensor => reshape(t, [-1, ...shape(t).slice(-2)]);
  const [bytes_MNK, scales_MRC, decoded_MNK] = [flat(bytes), flat(scales), flat(decoded)];
  for (let matrix = 0; matrix < shape(bytes_MNK)[0]; matrix++) {
    const [bytes_NK, scales_RC, decoded_NK] = [bytes_MNK, scales_MRC, decoded_MNK].map((t) => select(t, 0, matrix));
    scope(() => decodeMatrix_(decoded_NK, bytes_NK, scales_RC, block));
  }
  return decoded;
}

function decodeMatrix_(decoded_NK: Tensor, bytes_NK: Tensor, scales_RC: Tensor, [rows, columns]: Block): void {
  const [height, width] = shape(bytes_NK);
  const blocks = shape(scales_RC)[1];
  const across = Math.min(columns, width);
  forEachTile(height, Math.max(1, Math.floor(TILE / width)), (start, count) =>
    scope(() => {
      const blockOfRow = Array.from({ length: count }, (_, row) => Math.floor((start + row) / rows));
      const scales_NC = indexSelect(scales_RC, 0, fromArray(blockOfRow, [count], "int64"));
      const spread = reshape(expand(unsqueeze(scales_NC, -1), [count, blocks, across]), [count, blocks * across]);
      const values_NK = lookUp(narrow(bytes_NK, 0, start, count), E4M3);
      copy_(narrow(decoded_NK, 0, start, count), mul(values_NK, narrow(spread, 1, 0, width)));
    }),
  );
}

/**
 * float8_e4m3fn: a sign, 4 bits of exponent with bias 7, 3 bits of fraction. No infinity; NaN if all bits but the sign
 * are set.
 */
const E4M3 = Array.from({ length: 256 }, (_, byte) => {
  const [sign, exponent, fraction] = [byte >> 7 ? -1 : 1, (byte >> 3) & 15, byte & 7];
  if (exponent === 15 && fraction === 7) return Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10));
});
