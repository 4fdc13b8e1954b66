// Writes a safetensors file tensor by tensor: at any time one tensor is on the CPU and one buffer of 8 MiB is in use,
// whatever the size of the file. The file is complete when the function returns, not before: see save-folder.ts.
import { assert } from "../../errors.js";
import { contiguous } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import {
  type DType,
  DTYPES,
  dtype as dtypeOf,
  readBytes,
  shape as shapeOf,
  type Tensor,
  to,
} from "../../torch/tensor.js";
import { writeDurably } from "../files/disk.js";
import { byteLength, DTYPE_ON_DISK } from "./header.js";

/** A header's entry for a tensor. */
export type TensorPlan = Pick<TensorSource, "name" | "dtype" | "shape">;

/**
 * A tensor to be written. `read` is called in its turn and may return a tensor on any device, which is freed
 * afterwards.
 */
export interface TensorSource {
  name: string;
  dtype: DType;
  shape: number[];
  read: () => Tensor;
}

const BUFFER_BYTES = 8 * 2 ** 20;

/** Bytes of the tensors in a file, without its header. */
export const sourceBytes = (tensors: TensorPlan[]): number =>
  tensors.reduce((total, { dtype, shape }) => total + byteLength(dtype, shape), 0);

/** Sorts wide elements to the front, so that every tensor is aligned to its element size. */
export const inFileOrder = <Plan extends TensorPlan>(tensors: Plan[]): Plan[] =>
  [...tensors].sort((a, b) => DTYPES[b.dtype] - DTYPES[a.dtype]);

/** Writes `tensors` to `path`. */
export function writeSafetensors(path: string, tensors: TensorSource[], metadata: Record<string, string> = {}): void {
  const ordered = inFileOrder(tensors);
  const head = encodeHeader(ordered, metadata);
  writeDurably(path, head.length + sourceBytes(ordered), (append) => {
    append(head);
    const buffer = new Uint8Array(BUFFER_BYTES);
    for (const source of ordered) appendTensor(source, buffer, append);
  });
}

/** The header of a file of these tensors, in this order; its length is a multiple of `alignment`. */
export function encodeHeader(tensors: TensorPlan[], metadata: Record<string, string>, alignment = 8): Buffer {
  const fields: [string, unknown][] = Object.keys(metadata).length > 0 ? [["__metadata__", metadata]] : [];
  let begin = 0;
  for (const { name, dtype, shape } of tensors) {
    const end = begin + byteLength(dtype, shape);
    fields.push([name, { dtype: DTYPE_ON_DISK[dtype], shape, data_offsets: [begin, end] }]);
    begin = end;
  }
  assert(new Set(fields.map(([name]) => name)).size === fields.length, "two tensors of one name in a safetensors file");
  const text = Buffer.from(JSON.stringify(Object.fromEntries(fields)));
  const head = Buffer.alloc(Math.ceil((8 + text.length) / alignment) * alignment, " ");
  head.writeBigUInt64LE(BigInt(head.length - 8));
  text.copy(head, 8);
  return head;
}

function appendTensor(source: TensorSource, buffer: Uint8Array, append: (chunk: Uint8Array) => void): void {
  scope(() => {
    const made = source.read();
    assert(
      dtypeOf(made) === source.dtype && shapeOf(made).join() === source.shape.join(),
      `${source.name} was announced as ${source.dtype} [${source.shape.join()}] ` +
        `and came as ${dtypeOf(made)} [${shapeOf(made).join()}]`,
    );
    const total = byteLength(source.dtype, source.shape);
    const plain = contiguous(to(made, source.dtype, "cpu"));
    for (let offset = 0; offset < total; offset += buffer.length) {
      const chunk = buffer.subarray(0, Math.min(buffer.length, total - offset));
      readBytes(plain, offset, chunk);
      append(chunk);
    }
  });
}
