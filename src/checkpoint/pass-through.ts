// Tensors of a checkpoint that pass through: no forward pass here uses them, and whoever serves the model may, such as layers that
// predict further tokens. They are copied as they are, byte for byte.
import type { Architecture } from "../model/architecture.js";
import type { Parameters } from "../model/model.js";
import { formatBytes } from "../format.js";
import { cast } from "../torch/ops.js";
import { keep, scope } from "../torch/scope.js";
import { dtype, shape, type Tensor } from "../torch/tensor.js";
import type { Folder, ModelSource, StoredTensor } from "./model-files.js";
import { sourceBytes, type TensorPlan, type TensorSource } from "./safetensors/writer.js";

/** Their names in a folder, in its order. */
export const passingNames = ({ tensors }: Pick<Folder, "tensors">, { passThrough }: Architecture): string[] =>
  passThrough === undefined ? [] : [...tensors.keys()].filter((name) => passThrough.test(name));

/** Views of the mapped files, or what is decoded of these, which outlive the folder; the caller frees them. */
export function passingTensors(folder: Folder, architecture: Architecture): Parameters {
  const read = (name: string): Tensor =>
    scope(() => cast(folder.read(name), (folder.tensors.get(name) as StoredTensor).dtype));
  return Object.fromEntries(passingNames(folder, architecture).map((name) => [name, keep(read(name))]));
}

/** The same of a source that is not open. */
export function passingFrom(source: ModelSource, architecture: Architecture): Parameters {
  if (architecture.passThrough === undefined) return {};
  const folder = source.openWeights();
  try {
    return passingTensors(folder, architecture);
  } finally {
    folder.close();
  }
}

/** As they are to be written. */
export const passingSources = (passed: Parameters = {}): TensorSource[] =>
  Object.entries(passed).map(([name, tensor]) => ({
    name,
    dtype: dtype(tensor),
    shape: shape(tensor),
    read: () => tensor,
  }));

/** A sentence about them; none where there are none. */
export function passingNote(passing: TensorPlan[], from: string): string[] {
  if (passing.length === 0) return [];
  const [{ name }] = passing;
  const tensors = passing.length === 1 ? `tensor ${name}` : `${passing.length} tensors, ${name} and so on`;
  return [
    `${from} has ${tensors} (${formatBytes(sourceBytes(passing))}) that no layer here uses; they are not trained, and what is saved has them as they are`,
  ];
}
