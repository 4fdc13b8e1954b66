// What a format of quantised releases is: which `quantization_config` of config.json belongs to it, and how a folder of
// its packed tensors is seen as one of ordinary tensors with ordinary names. Each is decoded when it is read; nothing
// is decoded ahead or kept.
import { assert } from "../../errors.js";
import type { ConfigReader } from "../../families/config-reader.js";
import { select } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import type { DType, Tensor } from "../../torch/tensor.js";
import type { Folder } from "../model-files.js";

export interface QuantisedFormat {
  /** The `quant_method` of such files. */
  method: string;
  /** Reads the rest of quantization_config. Errors: UserError for a variant that is not decoded. */
  open(read: ConfigReader): Quantisation;
}

export interface Quantisation {
  /** What the weights are, for a note: "FP8 in blocks of 128 x 128". */
  words: string;
  /** A dtype that holds every value exactly. If given, weights are decoded to it, whatever config.json states. */
  exactIn?: DType;
  /**
   * Returns `packed` with decoded tensors in place of packed ones and their scales; the result owns `packed`. `stated`
   * is the weights' dtype according to config.json. Errors: UserError for packed tensors and scales that do not fit
   * together.
   */
  decoded(packed: Folder, stated: DType): Folder;
}

/** A tensor that is decoded when it is read. */
export interface DecodedTensor {
  name: string;
  shape: number[];
  /** The dtype to keep it in by default; it may be wider when it is read. */
  dtype: DType;
  /** For the caller's scope. */
  read(): Tensor;
  /** The part at `index` of its first dimension. */
  readOne?(index: number): Tensor;
}

/** `packed` with `tensors` added and those in `hidden` removed. */
export function withDecoded(packed: Folder, tensors: DecodedTensor[], hidden: Iterable<string>): Folder {
  const made = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const gone = new Set(hidden);
  const kept = [...packed.tensors].filter(([name]) => !gone.has(name) && !made.has(name));
  const checkName = (name: string): void =>
    assert(made.has(name) || !gone.has(name), `${packed.dir} has no tensor ${name}`);
  return {
    ...packed,
    packed,
    tensors: new Map([...kept, ...[...made].map(([name, { dtype, shape }]) => [name, { dtype, shape }] as const)]),
    read: (name) => {
      checkName(name);
      const decoded = made.get(name);
      return decoded ? scope(() => decoded.read()) : packed.read(name);
    },
    readOne: (name, index) => {
      checkName(name);
      const decoded = made.get(name);
      return scope(() => decoded?.readOne?.(index) ?? select((decoded ?? packed).read(name), 0, index));
    },
  };
}
