// Tensors of a checkpoint that pass through: no forward pass here uses them, but programs that serve the model may,
// such as layers that predict further tokens. They are copied byte for byte; those of a quantised release are decoded
// when they are written.
import type { Architecture } from "../model/architecture.js";
import type { PassedTensors } from "../model/model.js";
import { formatBytes } from "../format.js";
import { cast } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import type { Folder, ModelSource, StoredTensor } from "./model-files.js";
import { sourceBytes, type TensorPlan, type TensorSource } from "./safetensors/writer.js";

/** Names of the tensors that pass through, in the folder's order. */
export const passingNames = ({ tensors }: Pick<Folder, "tensors">, { passThrough }: Architecture): string[] =>
  passThrough === undefined ? [] : [...tensors.keys()].filter((name) => passThrough.test(name));

/** The tensors that pass through from an open folder, as they will be written. */
export const passingSources = (folder: Folder, architecture: Architecture): TensorSource[] =>
  passingNames(folder, architecture).map((name) => {
    const { dtype, shape } = folder.tensors.get(name) as StoredTensor;
    return { name, dtype, shape, read: () => scope(() => cast(folder.read(name), dtype)) };
  });

/** The tensors that pass through from a source, which stays open for them; undefined if there are none. */
export function passingFrom(source: ModelSource, architecture: Architecture): PassedTensors | undefined {
  if (architecture.passThrough === undefined) return undefined;
  const folder = source.openWeights();
  const tensors = passingSources(folder, architecture);
  if (tensors.length > 0) return { tensors, close: () => folder.close() };
  folder.close();
  return undefined;
}

/** A note about them; empty if there are none. */
export function passingNote(passing: TensorPlan[], from: string): string[] {
  if (passing.length === 0) return [];
  const [{ name }] = passing;
  const tensors = passing.length === 1 ? `tensor ${name}` : `${passing.length} tensors, ${name} and so on`;
  return [
    `${from} has ${tensors} (${formatBytes(sourceBytes(passing))}) that no layer here uses; they are not trained, and what is saved has them as they are`,
  ];
}
