// Reads a safetensors file through a mapping: opening it costs only the header, and a tensor's pages are read when they
// are touched. The file object owns the mapping until `close`; a tensor that was read before and is still alive stays
// valid after it.
import { assert } from "../../errors.js";
import { clone, narrow, reshape, viewDtype } from "../../torch/ops.js";
import { free, keep, scope } from "../../torch/scope.js";
import { DTYPES, empty, mapFile, type Tensor } from "../../torch/tensor.js";
import { readHeader, type TensorEntry } from "./header.js";

export type { TensorEntry } from "./header.js";

export interface SafetensorsFile {
  path: string;
  entries: Map<string, TensorEntry>;
  metadata: Record<string, string>;
  /**
   * The tensor `name`, for the caller's scope: a view of the mapped file, or a copy when the file does not align it to
   * its element size. Writing to a view changes memory only, never the file.
   */
  read(name: string): Tensor;
  close(): void;
}

/** Opens the file at `path`; the whole header is checked at once, see `readHeader`. */
export function openSafetensors(path: string): SafetensorsFile {
  const { entries, metadata } = readHeader(path);
  // The file may have changed since its header was read.
  const bytes = [...entries.values()].reduce((most, { end }) => Math.max(most, end), 1);
  const mapping = keep(mapFile(path, bytes));
  return {
    path,
    entries,
    metadata,
    read: (name) => {
      const entry = entries.get(name);
      assert(entry, `${path} has no tensor ${name}`);
      return readEntry(mapping, entry);
    },
    close: () => free(mapping),
  };
}

/** The bytes of an entry as a tensor, see `SafetensorsFile.read`. */
export function readEntry(mapping: Tensor, { dtype, shape, begin, end }: TensorEntry): Tensor {
  if (begin === end) return empty(shape, dtype);
  return scope(() => {
    const bytes = narrow(mapping, 0, begin, end - begin);
    return reshape(viewDtype(begin % DTYPES[dtype] === 0 ? bytes : clone(bytes), dtype), shape);
  });
}
