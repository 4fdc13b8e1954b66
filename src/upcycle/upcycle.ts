// Turns a dense checkpoint into a mixture of experts, tensor by tensor from the mapped source to the written folder: at
// most one tensor and its copy are in memory. When `upcycle` returns, the folder is complete and compared; if it fails,
// there is no folder.
import { checkWeightFiles } from "../checkpoint/files/check-files.js";
import { checkFreeSpace } from "../checkpoint/files/disk.js";
import { matchTensors } from "../checkpoint/load.js";
import { checkPlaceBesideModel } from "../checkpoint/files/places.js";
import { mainDtype, writeContent } from "../checkpoint/save.js";
import { checkReplaceable, saveFolder } from "../checkpoint/files/save-folder.js";
import { sourceBytes } from "../checkpoint/safetensors/writer.js";
import { openSource, sourceNotes } from "../checkpoint/source.js";
import { UserError } from "../errors.js";
import { type Architecture, isRouted } from "../model/architecture.js";
import { parameterCount, placedParameters } from "../model/model.js";
import type { DType } from "../torch/tensor.js";
import { readDenseModel } from "./dense.js";
import { chooseTarget, type ExpertShape, type Target, type TargetModel, TARGETS } from "./target.js";
import { type Drawing, upcycledTensors } from "./tensors.js";

export interface UpcycleOptions extends ExpertShape, Drawing {
  to: "auto" | Target;
  weightsDtype: "auto" | DType;
  /** Whether the result may compute another function than the dense model. */
  allowInexact: boolean;
  /** See `WriteOptions.maxShardBytes`. */
  maxShardBytes?: number;
  /** See `ExportOptions.overwrite`. */
  overwrite?: boolean;
  /** Called with what will be written, before it is written. */
  onPlan?: (plan: UpcyclePlan) => void;
}

export interface UpcyclePlan {
  from: string;
  to: Target;
  numExperts: number;
  expertsPerToken: number;
  expertWidth: number;
  sharedExpertWidth: number;
  sparseLayers: number;
  layers: number;
  /**
   * Whether the mixture computes the same as the dense model, up to rounding; if not, `lost` or noise is the reason.
   */
  equal: boolean;
  lost: string[];
  denseParameters: number;
  parameters: number;
  /** Number of parameters that take part for one token. */
  parametersPerToken: number;
  bytes: number;
  dtype: DType;
  /** See `Exported.notes`; not known before the folder is written. */
  notes: string[];
}

/** Writes the mixture of the dense model at `model` as the folder `dir`. Errors: UserError, and nothing is written. */
export function upcycle(model: string, dir: string, options: UpcycleOptions): UpcyclePlan {
  const { overwrite = false, maxShardBytes } = options;
  const replaced = overwrite ? "ours" : "nothing";
  checkPlaceBesideModel(dir, model);
  checkReplaceable(dir, replaced);
  const source = openSource(model);
  const dense = readDenseModel(source);
  const target = chooseTarget(dense, options.to, options);
  checkLoss(model, dense.architecture.modelType, target, options.allowInexact);
  const folder = source.openWeights();
  try {
    matchTensors(folder, dense.architecture);
    checkWeightFiles(source.path);
    const tensors = upcycledTensors(folder, target, options.weightsDtype, options);
    const bytes = sourceBytes(tensors);
    checkFreeSpace(dir, bytes);
    const { architecture, lost } = target;
    const parameters = parameterCount(placedParameters(architecture));
    const plan: UpcyclePlan = {
      from: dense.architecture.modelType,
      to: architecture.modelType as Target,
      numExperts: architecture.experts.count,
      expertsPerToken: architecture.experts.perToken,
      expertWidth: architecture.experts.width,
      sharedExpertWidth: target.sharedWidth,
      sparseLayers: routedLayers(architecture),
      layers: architecture.layers.length,
      equal: lost.length === 0 && options.noise === 0,
      lost,
      denseParameters: parameterCount(placedParameters(dense.architecture)),
      parameters,
      parametersPerToken: parameters - idleParameters(architecture),
      bytes,
      dtype: mainDtype(tensors),
      notes: sourceNotes(source),
    };
    options.onPlan?.(plan);
    const kept = saveFolder(
      dir,
      (side) => writeContent(side, { tensors, config: architecture.source }, { source, maxShardBytes }),
      replaced,
    );
    return { ...plan, notes: [...plan.notes, ...kept] };
  } finally {
    folder.close();
  }
}

const routedLayers = ({ layers }: Architecture): number => layers.filter(isRouted).length;

const idleParameters = (architecture: Architecture): number => {
  const { count, perToken, width } = architecture.experts;
  return routedLayers(architecture) * (count - perToken) * 3 * width * architecture.hiddenSize;
};

function checkLoss(model: string, from: string, { architecture, lost }: TargetModel, allowed: boolean): void {
  if (lost.length === 0 && allowed)
    throw new UserError("allow_inexact has no effect: nothing is lost here. Remove it.");
  if (lost.length === 0 || allowed) return;
  throw new UserError(
    `${model}: as ${architecture.modelType}, this ${from} model would not compute the same at the start: it loses ${lost.join("; ")}. ` +
      `Choose other experts or another to (${TARGETS.join(", ")}), or accept it with allow_inexact.`,
  );
}
