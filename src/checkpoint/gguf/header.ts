// The head of a GGUF file: metadata by key, then name, shape, type and place of every tensor. It is read and checked as
// a whole, so a file that is cut off or has wrong places is refused before a weight is read. The layout is in
// docs/gguf.md of ggml, versions 2 and 3, little-endian.
import { excerpt, UserError } from "../../errors.js";
import { ByteReader } from "./byte-reader.js";
import { type BlockType, TYPES, typeName } from "./types.js";

export type MetadataValue = string | number | boolean | string[] | number[] | boolean[];

export interface GgufTensor {
  name: string;
  type: BlockType;
  /** Row-major, as everywhere here; the file has the reverse order. */
  shape: number[];
  /** The file, and absolute byte offsets in it; `end` is one past the last. */
  path: string;
  begin: number;
  end: number;
}

export interface GgufHeader {
  path: string;
  metadata: Record<string, MetadataValue>;
  tensors: Map<string, GgufTensor>;
}

const AGAIN = "Download it again.";
/** Most elements of an array: many times the tokens and merges of any vocabulary. */
const MOST_ELEMENTS = 10_000_000;
const STRING = 8;
const ARRAY = 9;
/** Scalar types by their number in the file: bytes, and a function that reads them. */
const SCALARS: Record<number, { bytes: number; read: (bytes: Buffer) => number | boolean }> = {
  0: { bytes: 1, read: (b) => b.readUInt8() },
  1: { bytes: 1, read: (b) => b.readInt8() },
  2: { bytes: 2, read: (b) => b.readUInt16LE() },
  3: { bytes: 2, read: (b) => b.readInt16LE() },
  4: { bytes: 4, read: (b) => b.readUInt32LE() },
  5: { bytes: 4, read: (b) => b.readInt32LE() },
  6: { bytes: 4, read: (b) => shortest(b.readFloatLE()) },
  7: { bytes: 1, read: (b) => b.readUInt8() !== 0 },
  10: { bytes: 8, read: (b) => Number(b.readBigUInt64LE()) },
  11: { bytes: 8, read: (b) => Number(b.readBigInt64LE()) },
  12: { bytes: 8, read: (b) => b.readDoubleLE() },
};

/** The shortest decimal that gives this float32, as the file's maker wrote it: 1e-5, not 9.99999974e-6. */
function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}

/** Reads and checks the head of the file at `path`. */
export function readHeader(path: string): GgufHeader {
  const reader = new ByteReader(path);
  try {
    checkBeginning(reader);
    const tensorCount = reader.uint64();
    const keyCount = reader.uint64();
    const metadata: Record<string, MetadataValue> = Object.create(null) as Record<string, MetadataValue>;
    for (let i = 0; i < keyCount; i++) {
      const key = reader.string();
      metadata[key] = readValue(reader, reader.uint32(), key);
    }
    return { path, metadata, tensors: readTensors(reader, tensorCount, metadata) };
  } finally {
    reader.close();
  }
}

function checkBeginning(reader: ByteReader): void {
  const { path, size } = reader;
  const magic = size < 4 ? "" : reader.bytes(4).toString("latin1");
  if (magic !== "GGUF") {
    throw new UserError(
      `${path}: begins with ${excerpt(magic)} (expected "GGUF"). This is no GGUF file, or it is damaged. ${AGAIN}`,
    );
  }
  const version = reader.uint32();
  if (version === 2 || version === 3) return;
  const bigEndian = version !== 0 && version % 2 ** 16 === 0;
  throw new UserError(
    bigEndian
      ? `${path}: is a big-endian GGUF file (expected little-endian). Use the file for ordinary machines.`
      : `${path}: GGUF version ${version} is not supported (expected 2 or 3). Convert the model again with a current llama.cpp.`,
  );
}

function readValue(reader: ByteReader, type: number, key: string): MetadataValue {
  if (type === STRING) return reader.string();
  if (type !== ARRAY) return readScalar(reader, type, key);
  const element = reader.uint32();
  const count = reader.uint64();
  const least = element === STRING ? 8 : (SCALARS[element]?.bytes ?? 1);
  if (count * least > reader.left) {
    throw new UserError(
      `${reader.path}: the file is cut off or damaged: "${key}" has ${count} elements by its header, and ${reader.left} bytes follow. ${AGAIN}`,
    );
  }
  if (count > MOST_ELEMENTS) {
    throw new UserError(
      `${reader.path}: "${key}" has ${count} elements (expected at most ${MOST_ELEMENTS}). The file is damaged. ${AGAIN}`,
    );
  }
  return Array.from({ length: count }, () =>
    element === STRING ? reader.string() : readScalar(reader, element, key),
  ) as MetadataValue;
}

function readScalar(reader: ByteReader, type: number, key: string): number | boolean {
  const scalar = SCALARS[type];
  if (!scalar)
    throw new UserError(
      `${reader.path}: "${key}" is a value of type ${type}, which GGUF does not have. The file is damaged. ${AGAIN}`,
    );
  return scalar.read(reader.bytes(scalar.bytes));
}

function readTensors(
  reader: ByteReader,
  count: number,
  metadata: Record<string, MetadataValue>,
): Map<string, GgufTensor> {
  const { path } = reader;
  const tensors = new Map<string, GgufTensor>();
  for (let i = 0; i < count; i++) {
    const tensor = readTensor(reader);
    if (tensors.has(tensor.name))
      throw new UserError(`${path}: two tensors are called ${tensor.name}. The file is damaged. ${AGAIN}`);
    tensors.set(tensor.name, tensor);
  }
  const alignment = metadata["general.alignment"] ?? 32;
  if (typeof alignment !== "number" || !Number.isInteger(alignment) || alignment < 1) {
    throw new UserError(
      `${path}: "general.alignment" is ${excerpt(alignment)} (expected a whole number of bytes). ${AGAIN}`,
    );
  }
  const dataStart = Math.ceil(reader.position / alignment) * alignment;
  let filled = dataStart;
  for (const tensor of [...tensors.values()].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    tensor.begin += dataStart;
    tensor.end += dataStart;
    if (tensor.begin < filled)
      throw new UserError(`${path}: ${tensor.name} overlaps the tensor before it. The file is damaged. ${AGAIN}`);
    if (tensor.end > reader.size) {
      throw new UserError(
        `${path}: the file is cut off: ${tensor.name} ends at byte ${tensor.end} of ${reader.size}. ${AGAIN}`,
      );
    }
    filled = tensor.end;
  }
  return tensors;
}

/** One entry; its offsets are from the start of the data. */
function readTensor(reader: ByteReader): GgufTensor {
  const { path } = reader;
  const name = reader.string();
  const dimensions = reader.uint32();
  if (dimensions > 4)
    throw new UserError(
      `${path}: ${name} has ${dimensions} dimensions (expected at most 4). The file is damaged. ${AGAIN}`,
    );
  const shape = Array.from({ length: dimensions }, () => reader.uint64()).reverse();
  if (shape.includes(0))
    throw new UserError(`${path}: ${name} is empty, [${shape.join(", ")}]. The file is damaged. ${AGAIN}`);
  const number = reader.uint32();
  const type = TYPES[number];
  if (!type) {
    const known = Object.values(TYPES).map((each) => each.name);
    throw new UserError(
      `${path}: ${name}: type ${typeName(number)} is not supported (expected ${known.join(", ")}). Choose a file with another quantisation of this model.`,
    );
  }
  const begin = reader.uint64();
  const rowElements = shape.at(-1) ?? 1;
  if (rowElements % type.elements !== 0) {
    throw new UserError(
      `${path}: ${name}: rows of ${rowElements} are no whole number of ${type.name} blocks of ${type.elements}. ${AGAIN}`,
    );
  }
  const elements = shape.reduce((product, each) => product * each, 1);
  return { name, type, shape, path, begin, end: begin + (elements / type.elements) * type.bytes };
}
