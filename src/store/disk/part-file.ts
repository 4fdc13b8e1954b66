// The file of a part: a safetensors file that is mapped and written in place, so its tensors are ordinary tensors whose
// changes reach the disk. The tensors are views: whoever takes them must free them before `mapping` is closed.
import { UserError } from "../../errors.js";
import { AGAIN, readHeader } from "../../checkpoint/safetensors/header.js";
import { readEntry } from "../../checkpoint/safetensors/file.js";
import { encodeHeader, inFileOrder, sourceBytes, type TensorPlan } from "../../checkpoint/safetensors/writer.js";
import { SharedMapping } from "../../torch/mapping.js";
import { keep } from "../../torch/scope.js";
import { type DType, type Tensor, writeBytes } from "../../torch/tensor.js";

export interface PartTensor {
  name: string;
  dtype: DType;
  shape: readonly number[];
}

export interface PartFile {
  mapping: SharedMapping;
  tensors: Map<string, Tensor>;
}

// Tensors in memory are aligned like this, too. The last bits of a product can depend on where its factors lie (with
// MKL, for one row times a matrix).
const ALIGNMENT = 64;
const PADDING = "padding.";

/**
 * Makes the file at `path`, all zero, with its space on the disk reserved. Every tensor begins at a multiple of 64
 * bytes. Errors: UserError.
 */
export function createPartFile(path: string, tensors: PartTensor[]): PartFile {
  const ordered = inFileOrder(tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape: [...shape] }))).flatMap(
    padded,
  );
  const head = encodeHeader(ordered, {}, ALIGNMENT);
  let mapping: SharedMapping;
  try {
    mapping = new SharedMapping(path, head.length + sourceBytes(ordered));
  } catch (failure) {
    throw new UserError(`${(failure as Error).message}. Free some space or choose another output_dir.`);
  }
  writeBytes(mapping.tensor, 0, head);
  return { mapping, tensors: viewsOf(path, mapping) };
}

/** Opens a file that `createPartFile` made. Errors: UserError when it is missing, cut off or damaged. */
export function openPartFile(path: string): PartFile {
  try {
    // The header is checked first: it says when the file is missing or cut off.
    readHeader(path);
  } catch (failure) {
    if (!(failure instanceof UserError)) throw failure;
    throw new UserError(
      failure.message.replace(AGAIN, "Resume from a checkpoint-N folder, or start anew with overwrite_output_dir."),
    );
  }
  const mapping = new SharedMapping(path);
  return { mapping, tensors: viewsOf(path, mapping) };
}

/** The format allows no gaps, so the padding is a tensor, too. */
function padded(plan: TensorPlan): TensorPlan[] {
  const missing = (ALIGNMENT - (sourceBytes([plan]) % ALIGNMENT)) % ALIGNMENT;
  return missing === 0 ? [plan] : [plan, { name: `${PADDING}${plan.name}`, dtype: "uint8", shape: [missing] }];
}

function viewsOf(path: string, mapping: SharedMapping): Map<string, Tensor> {
  const entries = [...readHeader(path).entries].filter(([name]) => !name.startsWith(PADDING));
  return new Map(entries.map(([name, entry]) => [name, keep(readEntry(mapping.tensor, entry))]));
}
