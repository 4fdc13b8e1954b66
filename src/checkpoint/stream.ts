// A model's parameters, read from its source one at a time, for a forward pass that never holds the whole model. A
// parameter that lies on disk as it is used is a view of the mapped file. Single experts are stacked, turned ones
// turned back, and quantised weights decoded to float32, when they are read. Owns the mappings until `close`.
import { assert } from "../errors.js";
import { readArchitecture } from "../families/registry.js";
import type { Architecture } from "../model/architecture.js";
import { allRows, placedParameters } from "../model/model.js";
import { scope } from "../torch/scope.js";
import { dtype, empty, type Tensor, to } from "../torch/tensor.js";
import { checkWeightFiles } from "./files/check-files.js";
import { dtypeOnDisk, matchTensors } from "./load.js";
import { copyPiece_, fullName } from "./layout.js";
import type { ModelSource } from "./source.js";

export interface StreamedModel {
  architecture: Architecture;
  /**
   * A parameter by its layer (-1: outer parameters) and name, in its dtype on disk; do not change it. For the caller's
   * scope.
   */
  read(layer: number, name: string): Tensor;
  close(): void;
}

/** The ordinary network of a source. Errors: UserError as `loadModel`, before anything is read. */
export function streamModel(source: ModelSource, device: string): StreamedModel {
  const architecture = readArchitecture(source.config, source.configPath);
  const folder = source.openWeights();
  try {
    const matched = matchTensors(folder, architecture);
    checkWeightFiles(source.path);
    const places = new Map(
      placedParameters(architecture).map((placed) => [`${placed.layer} ${placed.spec.name}`, placed]),
    );
    const read = (layer: number, name: string): Tensor => {
      const placed = places.get(`${layer} ${name}`);
      const pieces = placed && matched.get(fullName(placed));
      assert(placed && pieces, `no parameter ${name} at layer ${layer}`);
      const [{ slice, turned }] = pieces;
      return scope(() => {
        if (slice === null && turned === undefined) {
          const stored = folder.read(pieces[0].name);
          return to(stored, dtype(stored), device);
        }
        const stacked = empty(placed.spec.shape, dtypeOnDisk(folder, pieces), device);
        for (const piece of pieces) copyPiece_(stacked, piece, folder, allRows(placed));
        return stacked;
      });
    };
    return { architecture, read, close: () => folder.close() };
  } catch (failure) {
    folder.close();
    throw failure;
  }
}
