// The header of a safetensors file: 8 bytes of length, then JSON with dtype, shape and place of every tensor. All of it
// is checked here, because wrong places would silently give wrong weights. Limits: the dtypes of `DTYPE_ON_DISK`, and
// two 8-bit types as bytes; others are refused by name.
import { closeSync, fstatSync, readSync } from "node:fs";

import { excerpt, UserError } from "../../errors.js";
import { openForReading } from "../../read-file.js";
import { type DType, DTYPES } from "../../torch/tensor.js";

/** 8-bit numbers that are no dtype here: 4 bits of exponent and 3 of fraction, or only an exponent. */
export type EightBits = "F8_E4M3" | "F8_E8M0";

export interface TensorEntry {
  name: string;
  dtype: DType;
  /** The meaning of a uint8 tensor's bytes, if they are not whole numbers; see quantised/. */
  eightBits?: EightBits;
  shape: number[];
  /** Absolute byte offsets in the file; `end` is one past the last. */
  begin: number;
  end: number;
}

export interface Header {
  entries: Map<string, TensorEntry>;
  metadata: Record<string, string>;
}

export const DTYPE_ON_DISK: Record<DType, string> = {
  float64: "F64",
  float32: "F32",
  float16: "F16",
  bfloat16: "BF16",
  int64: "I64",
  int32: "I32",
  int16: "I16",
  int8: "I8",
  uint8: "U8",
  bool: "BOOL",
};
const DTYPE_BY_NAME = new Map(Object.entries(DTYPE_ON_DISK).map(([dtype, name]) => [name, dtype as DType]));

const EIGHT_BITS: readonly string[] = ["F8_E4M3", "F8_E8M0"] satisfies EightBits[];

/** The advice with every error of `readHeader`. */
export const AGAIN = "Download or save it again.";
/** The limit of the reader by the format's authors. */
const LONGEST_HEADER = 100_000_000;
const MOST_DIMENSIONS = 8;

export const byteLength = (dtype: DType, shape: number[]): number =>
  shape.reduce((product, size) => product * size, DTYPES[dtype]);

/** Reads and checks the header of the file at `path`. */
export function readHeader(path: string): Header {
  const file = openForReading(path);
  try {
    const size = fstatSync(file).size;
    if (size < 8) {
      throw new UserError(
        `${path}: the file has ${size} bytes (expected at least 8, the length of its header). ${AGAIN}`,
      );
    }
    const first = Buffer.alloc(8);
    readSync(file, first, 0, 8, 0);
    const length = Number(first.readBigUInt64LE());
    if (first.toString("latin1") === "version " && size < 1024) {
      throw new UserError(
        `${path}: this is a Git LFS pointer of ${size} bytes, not the weights. Run "git lfs pull" in its folder.`,
      );
    }
    if (length > size - 8) {
      throw new UserError(
        `${path}: the header takes ${length} bytes by the first 8 bytes of the file, ` +
          `which has only ${size - 8} more. ` +
          `The file is cut off, or no safetensors file. ${AGAIN}`,
      );
    }
    if (length > LONGEST_HEADER) {
      throw new UserError(`${path}: the header takes ${length} bytes (expected at most ${LONGEST_HEADER}). ${AGAIN}`);
    }
    const text = Buffer.alloc(length);
    readSync(file, text, 0, length, 8);
    return parseHeader(text.toString("utf8"), 8 + length, size, path);
  } finally {
    closeSync(file);
  }
}

function parseHeader(text: string, dataStart: number, fileSize: number, path: string): Header {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new UserError(`${path}: the header is not JSON. The file is damaged, or no safetensors file. ${AGAIN}`);
  }
  if (!isRecord(parsed)) {
    throw new UserError(`${path}: the header is ${excerpt(parsed, 40)} (expected an object of tensors). ${AGAIN}`);
  }
  const { __metadata__: metadata = {}, ...tensors } = parsed;
  if (!isRecord(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    throw new UserError(`${path}: __metadata__ is ${excerpt(metadata)} (expected an object of strings). ${AGAIN}`);
  }
  const entries = Object.entries(tensors).map(([name, stated]) => parseEntry(name, stated, dataStart, path));
  checkPlaces(entries, dataStart, fileSize, path);
  return {
    entries: new Map(entries.map((entry) => [entry.name, entry])),
    metadata: metadata as Record<string, string>,
  };
}

function parseEntry(name: string, stated: unknown, dataStart: number, path: string): TensorEntry {
  const { dtype: label, shape, data_offsets: offsets } = isRecord(stated) ? stated : {};
  const eightBits = EIGHT_BITS.includes(label as string) ? (label as EightBits) : undefined;
  const dtype = eightBits ? "uint8" : DTYPE_BY_NAME.get(label as string);
  if (!dtype) {
    const known = [...DTYPE_BY_NAME.keys()].join(", ");
    throw new UserError(
      `${path}: ${name}: dtype ${excerpt(label)} is not supported (expected ${known}). ` +
        "Quantised weights must be converted to bfloat16 first.",
    );
  }
  if (!isListOfWholeNumbers(shape)) {
    throw new UserError(
      `${path}: ${name}: shape is ${excerpt(shape)} ` + `(expected a list of whole numbers of at least 0). ${AGAIN}`,
    );
  }
  if (shape.length > MOST_DIMENSIONS) {
    throw new UserError(
      `${path}: ${name}: has ${shape.length} dimensions (expected at most ${MOST_DIMENSIONS}). ${AGAIN}`,
    );
  }
  if (!isListOfWholeNumbers(offsets) || offsets.length !== 2) {
    throw new UserError(
      `${path}: ${name}: data_offsets is ${excerpt(offsets)} ` +
        `(expected two whole numbers, begin and end). ${AGAIN}`,
    );
  }
  const [begin, end] = offsets;
  if (begin > end)
    throw new UserError(`${path}: ${name}: data_offsets [${begin}, ${end}] end before they begin. ${AGAIN}`);
  const needed = byteLength(dtype, shape);
  if (end - begin !== needed) {
    throw new UserError(
      `${path}: ${name}: the header gives it ${end - begin} bytes, ` +
        `but ${label as string} [${shape.join(", ")}] takes ${needed}. ` +
        `The header lies about offsets. ${AGAIN}`,
    );
  }
  return { name, dtype, shape, begin: dataStart + begin, end: dataStart + end, ...(eightBits && { eightBits }) };
}

// The tensors must fill the file from the header to its end without gap or overlap, as the format demands.
function checkPlaces(entries: TensorEntry[], dataStart: number, fileSize: number, path: string): void {
  const described = entries.reduce((most, { end }) => Math.max(most, end), dataStart);
  if (described > fileSize) {
    throw new UserError(
      `${path}: the file is cut off: its header describes ${described - dataStart} bytes of tensors, ` +
        `found ${fileSize - dataStart}. ${AGAIN}`,
    );
  }
  let filled = dataStart;
  for (const { name, begin, end } of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== filled) {
      throw new UserError(
        `${path}: ${name} begins at byte ${begin - dataStart} of the data, ` +
          `where the tensor before it ends at ${filled - dataStart} ` +
          `(expected no ${begin < filled ? "overlap" : "gap"}). The header lies about offsets. ${AGAIN}`,
      );
    }
    filled = end;
  }
  if (filled !== fileSize) {
    throw new UserError(
      `${path}: ${fileSize - filled} bytes follow the last tensor (expected none). ` +
        `The header lies about offsets. ${AGAIN}`,
    );
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isListOfWholeNumbers = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
